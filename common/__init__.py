"""Helpers for every room; they import none of the rooms."""
