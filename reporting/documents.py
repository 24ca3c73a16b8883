"""The numbers of README.md and docs/, written between markers from the published results, never by hand.

`<!-- report: NAME -->` and `<!-- /report -->` stand around the block that `BLOCKS` calls NAME.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from common.errors import InputError
from common.files import write_text
from reporting.blocks import BLOCKS
from reporting.summary import Published

START, END = "<!-- report: ", "<!-- /report -->"
NOTHING = "Not measured yet."
BLOCK = re.compile(rf"(?P<head>{START}(?P<name>[\w-]+) -->)(?:(?!{START}).)*?{END}", re.DOTALL)


def fill_blocks(text: str, published: Published) -> str:
    """Return `text` with every block as the published results have it.

    Raises:
        InputError: an unknown block, one without an end, or results that are missing.
    """

    def fill(match: re.Match[str]) -> str:
        if match["name"] not in BLOCKS:
            raise InputError(f"unknown block {match['name']!r} in a document: choose from {', '.join(BLOCKS)}")
        return f"{match['head']}\n{BLOCKS[match['name']](published).strip() or NOTHING}\n{END}"

    filled, count = BLOCK.subn(fill, text)
    if not count == text.count(START) == text.count(END):
        raise InputError(f"a document has {text.count(START)} beginnings and {text.count(END)} ends of blocks")
    return filled


def write_documents(paths: Iterable[Path], published: Published) -> None:
    """Fill the blocks of the documents `paths` with the published results."""
    for path in paths:
        write_text(path, fill_blocks(path.read_text(encoding="utf-8"), published))
