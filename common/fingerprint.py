"""Fingerprints of users' code, so that edited code never gets the results of its earlier version."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType
from typing import Any

from common.command import at_new_command
from common.errors import InputError
from common.hashing import file_sha256
from common.imports import import_object, imported_names, load_module
from common.random_state import seeded

# This project's own code, of which records have no version.
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("attention", "attribution", "benchmarks", "common", "data", "evaluation", "experiments", "models", "reporting"),
    "training",
)
MODULES = ("main", "whitebox")

STANDARD_LIBRARY = sysconfig.get_path("stdlib")
SITE_FOLDERS = frozenset({"site-packages", "dist-packages"})
IN_RECORDS = ("numpy", "torch")  # records have their versions
HALF = 8  # digits of each half of a fingerprint
UNKNOWN = "0" * HALF

_sources: dict[str, tuple[object, str, list[str]]] = {}
_fingerprints: dict[tuple[str, str, str], str] = {}
_reported: set[tuple[str, str | None, str]] = set()


def code_fingerprint(place: str, settings: object, results: Callable[[], Sequence[str]]) -> str:
    """Return the fingerprint of the object at `place`: one half for its source, one for its results.

    Args:
        settings: everything beside the code on which `results` depends; its `repr` is the key of the cache.
        results: returns hashes of the object's results for a fixed input. Hashes that change from call to call are left
            out; for installed libraries all are.
    """
    key = place, source_sha256(place), repr(settings)
    if key not in _fingerprints:
        is_installed = _is_installed(getattr(load_module(place.rpartition(":")[0]), "__file__", None) or "")
        _fingerprints[key] = key[1][:HALF] + (UNKNOWN if is_installed else _hash_stable(results))
    return _fingerprints[key]


def _hash_stable(results: Callable[[], Sequence[str]]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the real use repeats them
        try:
            with seeded(0):
                first = results()
            with seeded(0):
                second = results()
        except Exception:  # users' code may raise anything
            return UNKNOWN
    stable = [hash_ for hash_, again in zip(first, second, strict=False) if hash_ == again]
    return hashlib.sha256("\n".join(stable).encode()).hexdigest()[:HALF] if stable else UNKNOWN


def require_unchanged(place: str, fingerprint: str) -> None:
    """Raise `InputError` if this process has loaded another source of `place` than that of `fingerprint`."""
    if source_sha256(place)[:HALF] != fingerprint[:HALF]:
        raise InputError(f"{place} was edited meanwhile: give the same command again, and its results are made anew")


def report_code_change(place: str, before: str | None, now: str) -> None:
    """Print, once per command, that other code made the stored results of `place`.

    Args:
        before: fingerprint in the stored results, None if they have none.
    """
    if (place, before, now) not in _reported:
        _reported.add((place, before, now))
        before = f"{before} then, {now} now" if before else f"not recorded then, {now} now"
        print(f"code of {place} has changed since its results were kept ({before}): computed anew", flush=True)


def forget_fingerprints() -> None:
    """Clear the caches, since users' files may have changed."""
    _fingerprints.clear()
    _reported.clear()


at_new_command(forget_fingerprints)


def source_sha256(place: str) -> str:
    """Return SHA-256 over all source of the object at `place`, as this process has loaded it.

    That is the module of the name, the modules that define the object, and the modules that these import, recursively:
    files byte by byte, and name and version of installed libraries. Python's own modules, this project, NumPy and
    PyTorch are left out. Code without a file, as in a notebook, is hashed by its instructions.

    Raises:
        InputError: there is no such place.
    """
    target = import_object(place, "it")
    roots = [load_module(place.rpartition(":")[0]).__name__, *_defining_modules(target)]
    queue, seen, parts = list(roots), {""}, {""}
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            part, imports = _module_hash(name, name in roots)
            parts.add(part)
            queue += [name.rpartition(".")[0], *imports]
    parts = parts - {""} or set(map(repr, _instructions(target)))
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def _defining_modules(target: Any) -> list[str]:
    """Return the names of the modules that define a class and its bases, a function, a partial or an instance."""
    if isinstance(target, functools.partial):
        parts = (target.func, *target.args, *target.keywords.values())
        return [name for part in parts for name in _defining_modules(part)]
    inner = inspect.unwrap(target) if callable(target) else target
    classes = inner.__mro__ if isinstance(inner, type) else type(inner).__mro__
    modules = (getattr(part, "__module__", None) for part in (target, inner, *classes))
    return [name for name in modules if isinstance(name, str)]


def _module_hash(name: str, include_own: bool) -> tuple[str, list[str]]:
    """Return a hash or version of a module, empty for modules to leave out, and the names that it imports.

    Args:
        include_own: hash a module of this project, too.
    """
    package = name.partition(".")[0]
    module, spec = sys.modules.get(name), _find_spec(name)
    file = getattr(module, "__file__", None) or (spec.origin if spec else None)
    if file is None or file in ("built-in", "frozen", "namespace"):
        return "", []
    if _is_installed(file):
        return "" if package in IN_RECORDS else _version(package, file), []
    is_own = package in (*PACKAGES, *MODULES) and Path(file).resolve().is_relative_to(ROOT)
    if Path(file).is_relative_to(STANDARD_LIBRARY) or (is_own and not include_own):
        return "", []
    loaded = module and (spec or module)  # another object after a reload
    if loaded and name in _sources and _sources[name][0] is loaded:
        return _sources[name][1:]
    read = getattr(spec.loader, "get_data", None) if spec else None  # also from an archive
    content = bytes(read(file)) if read else Path(file).read_bytes()
    parent = (spec.parent if spec else getattr(module, "__package__", None)) or ""
    source = hashlib.sha256(content).hexdigest(), imported_names(content, parent) if file.endswith(".py") else []
    if loaded:
        _sources[name] = loaded, *source
    return source


def _find_spec(name: str) -> ModuleSpec | None:
    """Find a module without importing anything."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent_name = name.rpartition(".")[0]
    try:
        if not parent_name:
            return importlib.util.find_spec(name)
        parent = _find_spec(parent_name)
        return PathFinder.find_spec(name, parent.submodule_search_locations) if parent else None
    except (ImportError, ValueError):
        return None


def _is_installed(file: str) -> bool:
    return not SITE_FOLDERS.isdisjoint(Path(file).parts)


_distributions = functools.cache(importlib.metadata.packages_distributions)


def _version(package: str, file: str) -> str:
    names = _distributions().get(package, [])
    if not names:
        return file_sha256(Path(file))
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))


def _instructions(target: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the byte code of a function or of the functions of a class."""
    functions = vars(target).values() if isinstance(target, type) else [target]
    unwrapped = map(inspect.unwrap, filter(callable, functions))
    queue = [function.__code__ for function in unwrapped if hasattr(function, "__code__")]
    while queue:
        code = queue.pop()
        inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        queue += inner
        yield code.co_code, code.co_names, [repr(constant) for constant in code.co_consts if constant not in inner]
