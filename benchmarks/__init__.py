"""Measurements against other people's code, each a script: `python -m benchmarks.NAME`."""
