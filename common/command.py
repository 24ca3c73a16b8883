"""Caches that last for one command: the user's files and code may change before the next one."""

from collections.abc import Callable
from functools import _lru_cache_wrapper, cache
from typing import TypeVar

T = TypeVar("T")

_forgetting: list[Callable[[], object]] = []


def at_new_command(forget: Callable[[], object]) -> None:
    """Have `forget` called when a command begins."""
    _forgetting.append(forget)


def cached_for_command(function: Callable[..., T]) -> "_lru_cache_wrapper[T]":
    """Keep the results of a function, by its arguments, until the next command begins."""
    cached = cache(function)
    at_new_command(cached.cache_clear)
    return cached


def begin_command() -> None:
    """Forget what an earlier command of this process has kept."""
    for forget in _forgetting:
        forget()
