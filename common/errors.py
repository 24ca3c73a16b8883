"""The one exception that is meant for the person at the keyboard."""


class InputError(Exception):
    """Something that the caller gave or that surrounds the program is wrong and can be mended.

    The message is one line: what is wrong, and what to do. `main.py` prints it and exits with status 2;
    every other exception is a defect of the program and keeps its traceback.
    """
