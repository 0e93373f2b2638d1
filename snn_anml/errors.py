"""The one exception that means: the user can mend this, and the message says how."""


class UserError(ValueError):
    """A mistake in what was handed in: a file, a configuration, an option, a module.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it
    and exits with code 2; the library raises it like any other `ValueError`.
    """


class MissingExtraError(UserError, ImportError):
    """A part was used whose optional packages are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        where = " on Python 3.10 or 3.11" if extra == "nengo" else ""
        super().__init__(
            f"{what} needs packages that are not installed; install them with: pip install 'snn-anml[{extra}]'{where}."
        )


class UnwritableError(UserError, OSError):
    """A file that cannot be written: no permission, no room, or something else in its place."""
