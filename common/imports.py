"""Import users' objects by place: `package.module:Name` or `path/to/file.py:Name`."""

import ast
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard
from urllib.parse import quote, unquote

from common.errors import InputError

LONGEST_NAME = 120  # letters of a path in file names, which have at most 255 bytes


def is_user_code(name: str | None) -> TypeGuard[str]:
    """Return whether `name` is the place of a user's own object."""
    return name is not None and ":" in name


def import_object(place: str, what: str) -> Any:
    """Import the object at `place`.

    Args:
        what: the kind of object, for the message: "a method", "a model".

    Raises:
        InputError: there is no such module, file or name.
    """
    path, _, name = place.rpartition(":")
    try:
        return getattr(load_module(path), name)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise InputError(f"{place}: {error}; give {what} as package.module:Name or path/to/file.py:Name") from error


def place_to_filename(place: str) -> str:
    """Return `place` as a part of file names: the last dot replaces the colon, and + replaces / in paths.

    Raises:
        InputError: the path is too long.
    """
    path, _, name = place.rpartition(":")
    if not path.endswith(".py"):
        return place.replace(":", ".")
    if len(part := quote(path).replace("/", "+")) > LONGEST_NAME:
        raise InputError(f"{place} is too long for the names of files: run from a nearer folder, or link to the file")
    return f"{part}.{name}"


def filename_to_place(filename: str) -> str:
    """Invert `place_to_filename`."""
    path, _, name = filename.rpartition(".")
    return f"{unquote(path.replace('+', '/')) if path.endswith('.py') else path}:{name}"


def load_module(path: str) -> ModuleType:
    """Import `package.module` or the file `path/to/file.py`, each once; a file can import the modules beside it."""
    if not path.endswith(".py"):
        return importlib.import_module(path)
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise ImportError(f"there is no file {file}")
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    folder = str(file.parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
        _require_visible_neighbours(file)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # for later imports
    return module


def _require_visible_neighbours(path: Path) -> None:
    """Raise `ImportError` if another module hides an imported module that lies beside `path`."""
    for name in imported_names(path.read_bytes(), ""):
        neighbours = [path.parent / f"{name}.py", path.parent / name / "__init__.py"]
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded and Path(loaded).resolve() not in neighbours and any(file.is_file() for file in neighbours):
            raise ImportError(f"{name} beside it is hidden by {loaded}: give it another name")


def imported_names(source: bytes, package: str) -> list[str]:
    """Return the names of all modules that a source in `package` may import, anywhere in it."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute_name("." * node.level + (node.module or ""), package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                names.append(_absolute_name(node.args[0].value, package))
    return names


def _absolute_name(name: str, package: str) -> str:
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return ""
