"""User-facing exceptions, and one-line summaries of other errors."""

LONGEST_LINE = 300  # characters of a summary; the full text is in the error's traceback
ELLIPSIS = " ..."


class UserError(Exception):
    """A request that cannot be carried out; its message is one line that says what to change.

    The command line prints it and exits with code 2. It must be raised before anything is lost.
    """


class ContractError(Exception):
    """A strategy or a setup that breaks its contract; its message says how, in one line."""


def first_line(error: object) -> str:
    """The first line of an error's message, printable, and cut if long; the type's name if there is no message."""
    try:
        message = str(error)
    except (Exception, SystemExit):  # an exception of a plug-in may itself fail in any way
        message = ""
    return _cut((message.strip().splitlines() or [type(error).__name__])[0])


def in_one_line(error: BaseException) -> str:
    """An error's type and the first line of its message, printable and cut likewise."""
    kind, line = type(error).__name__, first_line(error)
    return _cut(kind if line == kind else f"{kind}: {line}")


def printable(text: str) -> str:
    """A line of text with control characters, which a terminal would act on, written as Python escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _cut(text: str) -> str:
    line = printable(text[: LONGEST_LINE + 1])
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - len(ELLIPSIS)]}{ELLIPSIS}"
