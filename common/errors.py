"""The exception for mistakes that the user can correct."""


class InputError(Exception):
    """A wrong input or environment, in one line: what is wrong, and what to do.

    `main.py` prints it and exits with status 2; every other exception is a bug and keeps its traceback.
    """
