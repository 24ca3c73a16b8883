"""Experiments: plan, run, keep and find again what was measured. The only room that writes results."""
