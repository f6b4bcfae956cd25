"""Modules that lie beside a file given by its path: it may import them, and is hashed with them."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from genrec_bench.storage.python_files import FACE, load_python


def load_with_helpers(path: Path) -> ModuleType:
    """Run a file as ``load_python`` does; ``import name`` means ``name.py`` beside it, if there is.

    Modules of Python's own and of this package keep their names.
    """
    return load_python(path, _importer(path.resolve().parent))


def helpers_of(path: Path) -> tuple[Path, ...]:
    """Return the files that a file imports from beside itself, and those that these import."""
    folder, found = path.resolve().parent, dict[Path, None]()
    waiting = [path.resolve()]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for helper in filter(None, (_beside(folder, name) for name in names)):
                if helper not in found:
                    found[helper] = None
                    waiting.append(helper)
    return tuple(sorted(found))


def _beside(folder: Path, name: str) -> Path | None:
    """Return the file that a name means in a folder, if it is a module of its own there."""
    known = name in sys.stdlib_module_names or name == FACE.partition(".")[0]
    file = folder / f"{name}.py"
    return file if name.isidentifier() and not known and file.is_file() else None


def _importer(folder: Path) -> Callable[..., ModuleType]:
    """Return what imports for the files of a folder: modules of it, and all others as ever."""
    loaded: dict[Path, ModuleType] = {}

    def find(
        name: str,
        namespace: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        wanted: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        helper = None if level else _beside(folder, name)
        if helper is None:
            return builtins.__import__(name, namespace, local, wanted or (), level)
        if helper not in loaded:
            loaded[helper] = load_python(helper, find)
        return loaded[helper]

    return find
