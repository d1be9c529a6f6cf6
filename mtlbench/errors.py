"""The exceptions that speak to a user, and others' errors in one line."""


class UserError(Exception):
    """What was asked cannot be done as asked; the message is the one line that says what to change.

    The command line prints it and exits with code 2. It must be raised before anything is lost.
    """


class ContractError(Exception):
    """A strategy or a setup is not what it has to be; the message says how, in a line."""


def first_line(error: object) -> str:
    """The first line of what an error says, or its type's name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_one_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"
