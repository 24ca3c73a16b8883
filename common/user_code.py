"""What users bring themselves: where it lies, what its code is, and the random numbers that it draws.

A method or model of somebody's own is named `package.module:Name` or `path/to/file.py:Name`. Everything that is kept of
it says which code made it, so that edited code never gets an old answer.
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import random
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeGuard
from urllib.parse import quote, unquote

from common.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("attention", "attribution", "benchmarks", "common", "data", "evaluation", "experiments", "models", "reporting"),
    "training",
)
MODULES = ("main",)
"""Of this project: records don't say which version of it made them, for users' methods as for ours."""

PYTHONS = sysconfig.get_path("stdlib")
INSTALLED = frozenset({"site-packages", "dist-packages"})
IN_RECORDS = ("numpy", "torch")  # libraries on which everything rests
LONGEST_NAME = 120  # letters of a path in names of files, which end at 255 bytes
HALF = 8  # digits of each half of a code
UNKNOWN = "0" * HALF

_sources: dict[str, tuple[object, str, list[str]]] = {}
_codes: dict[tuple[str, str, str], str] = {}
_announced: set[tuple[str, str | None, str]] = set()


def is_own(name: str | None) -> TypeGuard[str]:
    """Return whether `name` is the place of something of a user's own."""
    return name is not None and ":" in name


def named(place: str, what: str) -> Any:
    """Import what is called `Name` in `package.module` or in a file.

    Args:
        what: it is to be, for the message: "a method", "a model".

    Raises:
        InputError: there is no such module, file or name.
    """
    path, _, name = place.rpartition(":")
    try:
        return getattr(_module(path), name)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        mend = f"give {what} as package.module:Name or path/to/file.py:Name"
        raise InputError(f"{place}: {error}; {mend}") from error


def filed(place: str) -> str:
    """Return `place` as a part of file names: the last dot stands for the colon, and in paths + for /.

    Raises:
        InputError: a path that is too long.
    """
    path, _, name = place.rpartition(":")
    if not path.endswith(".py"):
        return place.replace(":", ".")
    if len(part := quote(path).replace("/", "+")) > LONGEST_NAME:
        raise InputError(f"{place} is too long for the names of files: go nearer, or link to it")
    return f"{part}.{name}"


def unfiled(name: str) -> str:
    """Return the place that `filed` gave this name."""
    path, _, name = name.rpartition(".")
    return f"{unquote(path.replace('+', '/')) if path.endswith('.py') else path}:{name}"


def _module(path: str) -> ModuleType:
    return _file_module(Path(path).expanduser()) if path.endswith(".py") else importlib.import_module(path)


def _file_module(path: Path) -> ModuleType:
    """Load the module of a file once; it can import the modules beside it."""
    path = path.resolve()
    if not path.is_file():
        raise ImportError(f"there is no file {path}")
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:HALF]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
        _require_its_neighbours(path)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # for what it imports later
    return module


def _require_its_neighbours(path: Path) -> None:
    """Raise `ImportError` if a module beside `path` is hidden by another one of its name."""
    for name in _imports(path.read_bytes(), ""):
        beside = [path.parent / f"{name}.py", path.parent / name / "__init__.py"]
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded and Path(loaded).resolve() not in beside and any(one.is_file() for one in beside):
            raise ImportError(f"{name} beside it is hidden by {loaded}: give it another name")


# What its code is


def code_of(place: str, settings: object, results: Callable[[], Sequence[str]]) -> str:
    """Return what stands for the code of `place` in records: half for its source, half for what it gives.

    Args:
        settings: with a `repr` that tells on what `results` depends beside the code; each is asked for once.
        results: sums of what it gives for a fixed input. Those that change from call to call are left out, and of
            installed libraries all.
    """
    key = place, source_sum(place), repr(settings)
    if key not in _codes:
        is_installed = _is_below_packages(getattr(_module(place.rpartition(":")[0]), "__file__", None) or "")
        _codes[key] = key[1][:HALF] + (UNKNOWN if is_installed else _steady(results))
    return _codes[key]


def _steady(results: Callable[[], Sequence[str]]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come again when it is used
        try:
            with seeded(0):
                first = results()
            with seeded(0):
                second = results()
        except Exception:  # of whatever kind: somebody else's code
            return UNKNOWN
    steady = [one for one, other in zip(first, second, strict=False) if one == other]
    return hashlib.sha256("\n".join(steady).encode()).hexdigest()[:HALF] if steady else UNKNOWN


def require_unchanged(place: str, code: str) -> None:
    """Raise `InputError` if this process has loaded other source of `place` than that of `code`."""
    if source_sum(place)[:HALF] != code[:HALF]:
        raise InputError(f"{place} was edited meanwhile: give the same command again, and its results are made anew")


def say_changed(place: str, then: str | None, now: str) -> None:
    """Print, once in a command, that what is kept was made by other code.

    Args:
        then: the code of what is kept; None if that doesn't say it.
    """
    if (place, then, now) not in _announced:
        _announced.add((place, then, now))
        then = f"{then} then, {now} now" if then else f"not recorded then, {now} now"
        print(f"code of {place} has changed since its results were kept ({then}): computed anew", flush=True)


def begin_command() -> None:
    """Forget what was found and said before: the files beside somebody's code may be others by now."""
    _codes.clear()
    _announced.clear()


def source_sum(place: str) -> str:
    """Return SHA-256 over the source that `place` rests on, as this process has loaded it.

    That is the module of the name, the one that defines it, and whatever these import, one from the other: files byte
    by byte, comments too, and of installed libraries name and version. Python's own modules, this project, NumPy and
    PyTorch are left out.

    Raises:
        InputError: there is no such place.
    """
    thing = named(place, "it")
    first = [_module(place.rpartition(":")[0]).__name__, *_defining(thing)]
    waiting, seen, parts = list(first), set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])
        part, imports = _source(name, name in first)
        waiting += imports
        parts |= {part} if part else set()
    if not parts:
        parts = set(map(repr, _instructions(thing)))
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def _defining(thing: Any) -> list[str]:
    """Names of the modules that define a class with its bases, a function, a partial one or an instance."""
    if isinstance(thing, functools.partial):
        return [name for one in (thing.func, *thing.args, *thing.keywords.values()) for name in _defining(one)]
    inner = inspect.unwrap(thing) if callable(thing) else thing
    classes = inner.__mro__ if isinstance(inner, type) else type(inner).__mro__
    return [name for one in (thing, inner, *classes) if isinstance(name := getattr(one, "__module__", None), str)]


def _source(name: str, wanted: bool) -> tuple[str, list[str]]:
    """Return what stands for a module, nothing for one that is left out, and the names that it imports.

    Args:
        wanted: of this project, too.
    """
    top = name.partition(".")[0]
    module, spec = sys.modules.get(name), _spec(name)
    file = getattr(module, "__file__", None) or (spec.origin if spec else None)
    if file is None or file in ("built-in", "frozen", "namespace"):
        return "", []
    if _is_below_packages(file):
        return "" if top in IN_RECORDS else _version(top, file), []
    ours = top in (*PACKAGES, *MODULES) and Path(file).resolve().is_relative_to(ROOT)
    if Path(file).is_relative_to(PYTHONS) or (ours and not wanted):
        return "", []
    loaded = module and (spec or module)  # another one after a reload
    if loaded and name in _sources and _sources[name][0] is loaded:
        return _sources[name][1:]
    content = _content(file, spec)
    package = (spec.parent if spec else getattr(module, "__package__", None)) or ""
    found = hashlib.sha256(content).hexdigest(), _imports(content, package) if file.endswith(".py") else []
    if loaded:
        _sources[name] = loaded, *found
    return found


def _spec(name: str) -> ModuleSpec | None:
    """Find a module without importing anything."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    above, _, _ = name.rpartition(".")
    try:
        if not above:
            return importlib.util.find_spec(name)
        parent = _spec(above)
        return PathFinder.find_spec(name, parent.submodule_search_locations) if parent else None
    except (ImportError, ValueError):
        return None


def _content(file: str, spec: ModuleSpec | None) -> bytes:
    """Read the bytes of a module: of its source, or of what there is of it."""
    read = getattr(spec.loader, "get_data", None) if spec else None  # also from an archive
    return bytes(read(file)) if read else Path(file).read_bytes()


def _is_below_packages(file: str) -> bool:
    return not INSTALLED.isdisjoint(Path(file).parts)


def _version(top: str, file: str) -> str:
    names = _distributions().get(top, [])
    if not names:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def _imports(content: bytes, package: str) -> list[str]:
    """Return the names of all modules that a source may import, wherever it does so."""
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return []
    found: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            found += [base, *(f"{base}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append(_absolute(node.args[0].value, package))
    return found


def _absolute(name: str, package: str) -> str:
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return ""


def _instructions(thing: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what the functions of a class or a function do: for code that has no file, as in a notebook."""
    functions = vars(thing).values() if isinstance(thing, type) else [thing]
    waiting = [one.__code__ for one in map(inspect.unwrap, filter(callable, functions)) if hasattr(one, "__code__")]
    while waiting:
        code = waiting.pop()
        inner = [one for one in code.co_consts if isinstance(one, CodeType)]
        waiting += inner
        yield code.co_code, code.co_names, [repr(one) for one in code.co_consts if one not in inner]


# The random numbers that it draws


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let all global generators begin from `seed` in the `with` block, and go on afterwards as if it had not been.

    These are Python's, NumPy's and PyTorch's, on the processor and on each GPU in use.
    """
    import numpy as np  # here, so that naming the models costs no import of either
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (it is what users' code may draw from)
    with torch.random.fork_rng(devices=devices):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
            if devices:
                torch.cuda.manual_seed_all(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
