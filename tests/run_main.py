"""`main.py` in this process, or in one of its own on sample data: `python -m tests.run_main DATA_DIR OPTIONS...`."""

import signal
import sys
from pathlib import Path

import main
from data import DATASETS
from data.catalog import CATALOG
from tests.samples import sample_entry


def run(data_dir: Path, output: Path, options: list[str]) -> int:
    """The exit status."""
    try:
        return main.main([f"--data-dir={data_dir}", f"--output-dir={output}", *options])
    except SystemExit as stop:  # argparse's own way to end
        return int(stop.code or 0)


def written(folder: Path) -> list[Path]:
    """All files below `folder` but locks, which are empty."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)


def hear_ctrl_c() -> None:
    """A program that a shell starts in the background ignores it, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    CATALOG.update({name: sample_entry(name) for name in DATASETS})
    sys.exit(main.main([f"--data-dir={sys.argv[1]}", *sys.argv[2:]]))
