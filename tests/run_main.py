"""`main.py` in a process of its own on the sample data: `python -m tests.run_main DATA_DIR OPTIONS...`."""

import sys

import main
from datasets import DATASETS
from datasets.catalog import CATALOG
from tests.samples import sample_entry

if __name__ == "__main__":
    CATALOG.update({name: sample_entry(name) for name in DATASETS})
    sys.exit(main.main([f"--data-dir={sys.argv[1]}", *sys.argv[2:]]))
