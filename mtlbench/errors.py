"""The one exception that speaks to a user."""


class UserError(Exception):
    """What was asked cannot be done as asked; the message is the one line that says what to change.

    The command line prints it and exits with code 2. It must be raised before anything is lost.
    """
