"""The exceptions that speak to a user, and others' errors in one line."""

LONGEST_LINE = 300  # characters of what others' errors say; the whole text is in their traceback
ELLIPSIS = " ..."


class UserError(Exception):
    """What was asked cannot be done as asked; the message is the one line that says what to change.

    The command line prints it and exits with code 2. It must be raised before anything is lost.
    """


class ContractError(Exception):
    """A strategy or a setup is not what it has to be; the message says how, in a line."""


def first_line(error: object) -> str:
    """The first line of what an error says, in printable characters and cut if it is long.

    Its type's name where it says nothing.
    """
    try:
        said = str(error)
    except (Exception, SystemExit):  # a plug-in's exception may fail in any way itself
        said = ""
    return _cut((said.strip().splitlines() or [type(error).__name__])[0])


def in_one_line(error: BaseException) -> str:
    """An error's type and the first line of what it says, likewise."""
    kind, line = type(error).__name__, first_line(error)
    return _cut(kind if line == kind else f"{kind}: {line}")


def printable(text: str) -> str:
    """Text of one line in which what a terminal would act on is shown as Python writes it."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _cut(text: str) -> str:
    shown = printable(text[: LONGEST_LINE + 1])
    return shown if len(shown) <= LONGEST_LINE else f"{shown[: LONGEST_LINE - len(ELLIPSIS)]}{ELLIPSIS}"
