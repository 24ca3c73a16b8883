"""Standard output and error: in what their terminal can show, and silent where nobody reads on."""

import codecs
import io
import os
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TextIO

PLAIN = {  # of the letters that we write, those that have a usual spelling in ASCII
    letter: word
    for letters, word in (
        *(("±", "+/-"), ("×", "x"), ("−–—▼", "-"), ("▲", "+"), ("·†", "*"), ("≈", "~"), ("≥", ">="), ("≤", "<=")),
        *(("→", "->"), ("↑", "^"), ("↓", "v"), ("‖", "||"), ("‘’", "'"), ("“”", '"'), ("√", "sqrt"), ("Σ", "sum")),
        *(("α", "alpha"), ("β", "beta"), ("δ", "delta"), ("σ", "sigma"), ("φ", "phi"), ("ø", "o"), ("ß", "ss")),
    )
    for letter in letters
}


def plainly(error: UnicodeError) -> tuple[str, int]:
    """Write what a stream can't encode in ASCII: the `codecs` error handler `plainly`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(letter: str) -> str:
    """A letter by its usual spelling, else without its accent, else by its number."""
    if letter in PLAIN:
        return PLAIN[letter]
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or letter.encode("ascii", "backslashreplace").decode()


def set_up_streams() -> None:
    """Let stdout and stderr write what their terminal can show, whatever its encoding; nothing changes for UTF-8."""
    codecs.register_error("plainly", plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # others have no encoding, or are None
            stream.reconfigure(errors="plainly")


def silence(*streams: TextIO | None) -> None:
    """Send what is still to be written nowhere: Python would try again at its end, and complain."""
    for stream in streams:
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            if stream is not None:
                os.dup2(nowhere.fileno(), stream.fileno())
