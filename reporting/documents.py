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

BLOCK = re.compile(r"(?P<head><!-- report: (?P<name>[\w-]+) -->\n).*?(?P<tail>\n<!-- /report -->)", re.DOTALL)


def fill_blocks(text: str, published: Published) -> str:
    """Return `text` with every block as the published results have it.

    Raises:
        InputError: an unknown block, or results that are missing.
    """

    def fill(match: re.Match[str]) -> str:
        if match["name"] not in BLOCKS:
            raise InputError(f"unknown block {match['name']!r} in a document: choose from {', '.join(BLOCKS)}")
        return f"{match['head']}{BLOCKS[match['name']](published).strip()}{match['tail']}"

    return BLOCK.sub(fill, text)


def write_documents(paths: Iterable[Path], published: Published) -> None:
    """Fill the blocks of the documents `paths` with the published results."""
    for path in paths:
        write_text(path, fill_blocks(path.read_text(encoding="utf-8"), published))
