"""Python files that are given by their path: loaded, and their faults told in one line."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from genrec_bench.errors import UserError

FACE = "genrec_bench.algorithm"
"""What such files import; all other modules may move."""


def load_python(path: Path) -> ModuleType:
    """Run a file and return its module; whatever it raises comes through.

    It is kept in ``sys.modules``, where dataclasses look up their types, under a name that no
    import can mean. The file's folder is not importable: what is hashed is the whole of it.
    """
    path = path.resolve()
    name = f"<{path}>"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Compiled here and now: bytecode that Python caches can be older than a file edited twice
        # in a second, and what is run must be what is hashed.
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def raised_line(error: BaseException, file: Path | None) -> str:
    """Return in one line what was raised, and at which line of a file; None: of the innermost."""
    if isinstance(error, UserError):
        return str(error)
    message = str(error)
    places = [
        (Path(frame.filename), frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
    ]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(error.filename), error.lineno))
        message = error.msg
    if isinstance(error, ImportError) and (error.name or "").startswith("genrec_bench."):
        if error.name != FACE:
            message += f"; import it from {FACE}"
    inside = [place for place in places if file is None or place[0].resolve() == file]
    where = ""
    if inside:
        path, line = inside[-1]
        where = f"line {line}: " if file is not None else f"{path.name} line {line}: "
    return f"{where}{type(error).__name__}: {' '.join(message.split())}"
