"""Python files that are given by their path: loaded, and their faults told in one line."""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from genrec_bench.errors import StorageError, UserError, one_line

T = TypeVar("T")

FACE = "genrec_bench.algorithm"
"""What such files import; all other modules may move."""

_foreign: set[Path] = set()
"""Files of code that is not ours, as far as any was loaded."""


def load_python(path: Path, importer: Callable[..., ModuleType] | None = None) -> ModuleType:
    """Run a file and return its module; whatever it raises comes through.

    It is kept in ``sys.modules``, where dataclasses look up their types, under a name that no
    import can mean. The file's folder is not importable: what is hashed is the whole of it. An
    ``importer`` takes the place of Python's; see ``helper_modules.py``.
    """
    path = path.resolve()
    know_foreign([path])
    name = f"<{path}>"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if importer is not None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": importer}
    try:
        # Compiled here and now: bytecode that Python caches can be older than a file edited twice
        # in a second, and what is run must be what is hashed.
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def guarded(act: Callable[[], T], said: str, file: Path | None) -> T:
    """Have code that is not ours do something; whatever it raises, or if it exits, is one line.

    Args:
        said: begins the message.
        file: of the code, whose line is named; None: the innermost that there is.

    Raises:
        UserError: it raised anything but KeyboardInterrupt, which is the user's own.
    """
    try:
        return act()
    except (KeyboardInterrupt, StorageError):
        raise
    except BaseException as error:
        raise UserError(f"{said}{raised_line(error, file)}") from None


def know_foreign(files: Iterable[Path]) -> None:
    """Remember files as code that is not ours, for `foreign_end`."""
    _foreign.update(file.resolve() for file in files)


def foreign_end(error: BaseException) -> str | None:
    """Say in one line what code that is not ours has raised to end the program, as `sys.exit` does.

    Returns:
        None for any `Exception`, whose traceback its author may want, for an interrupt, and for
        what no such code had a part in.
    """
    if isinstance(error, Exception | KeyboardInterrupt):
        return None
    files = (Path(frame.filename).resolve() for frame in traceback.extract_tb(error.__traceback__))
    passed = [file for file in files if file in _foreign]
    return f"{passed[-1].name} {raised_line(error, passed[-1])}" if passed else None


@contextlib.contextmanager
def foreign_ends() -> Iterator[None]:
    """Raise UserError in place of a `foreign_end` within; all else passes as it is."""
    try:
        yield
    except BaseException as error:
        if told := foreign_end(error):
            raise UserError(told) from None
        raise


def raised_line(error: BaseException, file: Path | None) -> str:
    """Return in one line what was raised, and at which line of a file; None: of the innermost."""
    if isinstance(error, UserError):
        return str(error)
    try:
        message = str(error)
    except BaseException:  # that of a class which is not ours
        message = "(which cannot be told)"
    places = [
        (Path(frame.filename), frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
    ]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(str(error.filename)), error.lineno))
        message = str(error.msg)
    if isinstance(error, ImportError) and (error.name or "").startswith("genrec_bench."):
        if error.name != FACE:
            message += f"; import it from {FACE}"
    inside = [place for place in places if file is None or place[0].resolve() == file]
    where = ""
    if inside:
        path, line = inside[-1]
        where = f"line {line}: " if file is not None else f"{path.name} line {line}: "
    return f"{where}{type(error).__name__}: {one_line(message)}"
