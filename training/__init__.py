"""Recipes, the training loop, and checkpoints."""

VALIDATION_RATE = 0.02  # share of the training images that is held out to show progress
