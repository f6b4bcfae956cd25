"""Finds the algorithms that there are, without a list of them.

Three places are looked at: the files in ``genrec_bench.algorithms``, the entry points of installed
packages in the group of that name, and a file given by its path. What cannot be used is kept as a
problem with its reason, so that it neither breaks the others nor disappears.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType

from genrec_bench import algorithms
from genrec_bench.errors import UserError, nearest, no_file
from genrec_bench.storage.digests import content_digest
from genrec_bench.storage.helper_modules import helpers_of, load_with_helpers
from genrec_bench.storage.python_files import guarded, know_foreign
from genrec_bench.storage.validation import is_plain_name
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.hyperparameters import Hyperparameters

GROUP = "genrec_bench.algorithms"
"""The entry-point group under which an installed package offers algorithms."""


_OF_SEEN = "candidates and targets are seen.tree and seen.targets since 0.4"

CHANGED = {
    "heads": "a head is told the catalog's SIDs since 0.4",
    "reward": _OF_SEEN,
    "accepts": _OF_SEEN,
    "advantage": _OF_SEEN,
}
"""Methods of the contract that had other arguments, and what became of these."""


@dataclass(frozen=True)
class Entry:
    """An algorithm that can be used; its origin is a file, or an entry point and its package."""

    name: str
    origin: str
    algorithm: type[Algorithm]

    @property
    def documentation(self) -> str:
        """The docstrings of the module and of the class."""
        texts = (sys.modules[self.algorithm.__module__].__doc__, self.algorithm.__doc__)
        return "\n\n".join(inspect.cleandoc(text) for text in texts if text)

    @property
    def summary(self) -> str:
        """The first line of the documentation."""
        return self.documentation.partition("\n")[0]


@dataclass(frozen=True)
class Problem:
    """An algorithm that cannot be used, and why; where several have one name, all their origins."""

    name: str
    origin: str
    reason: str


@dataclass(frozen=True)
class Registry:
    """What was found, sorted by name."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]

    def get(self, name: str) -> Entry:
        """Return the algorithm of that name; UserError if there is none, or it cannot be used."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        found = [problem for problem in self.problems if problem.name == name]
        if found:
            reasons = "; ".join(f"{problem.origin}: {problem.reason}" for problem in found)
            raise UserError(f"algorithm {name!r} cannot be used: {reasons}")
        names = [entry.name for entry in self.entries]
        raise UserError(
            f"there is no algorithm {name!r}{nearest(name, names)} "
            f"(found: {', '.join(names) or 'none'}; a file of your own is named by its path, "
            f"as in ./{name}.py)"
        )


@dataclass(frozen=True)
class _Source:
    """A place that should hold an algorithm; ``file`` is None where it is not known beforehand."""

    name: str
    origin: str
    file: Path | None
    load: Callable[[], object]


def discover(reserved: Collection[str] = (), file: Path | None = None) -> Registry:
    """Find and load all algorithms.

    Args:
        reserved: names that a hyperparameter must not have, being settings of the harness.
        file: one more file to load; its stem is the algorithm's name.
    """
    sources = [*_built_in(), *_installed()]
    if file is not None and file.resolve() not in [source.file for source in sources]:
        sources.append(_Source(file.stem, str(file), file.resolve(), partial(_load_file, file)))
    entries: dict[str, Entry] = {}
    problems = []
    origins: dict[str, list[str]] = {}
    for source in sources:
        origins.setdefault(source.name, []).append(source.origin)
        try:
            algorithm = guarded(partial(_loaded, source, reserved), "", source.file)
            entries[source.name] = Entry(source.name, source.origin, algorithm)
        # What is wrong with a plug-in is its own problem and must not hide the rest.
        except UserError as error:
            problems.append(Problem(source.name, source.origin, str(error)))
    for name, several in origins.items():
        if len(several) > 1:
            entries.pop(name, None)
            reason = f"they have one name, {name!r}; rename all but one"
            problems.append(Problem(name, " and ".join(several), reason))
    return Registry(
        tuple(entries[name] for name in sorted(entries)),
        tuple(sorted(problems, key=lambda problem: (problem.name, problem.origin))),
    )


def default_hyperparameters() -> dict[str, dict[str, object]]:
    """Return the default hyperparameters of every algorithm that can be used, by its name."""
    return {
        entry.name: dataclasses.asdict(entry.algorithm.hyperparameters_class())
        for entry in discover().entries
    }


def baseline() -> str:
    """Return the name of the algorithm that others are measured by; empty if none says it is."""
    entries = discover().entries
    return next((one.name for one in entries if vars(one.algorithm).get("is_baseline")), "")


def find(argument: str, reserved: Collection[str] = ()) -> Entry:
    """Return the algorithm that the command line names, by its name or by its file; see `discover`.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    if not argument.endswith(".py") and is_plain_name(argument):
        return discover(reserved).get(argument)
    path = Path(argument)
    if path.suffix != ".py":
        raise UserError(f"{argument}: an algorithm given by its path is a Python file, NAME.py")
    if not path.is_file():
        raise UserError(f"{argument}: {no_file(Path(argument))}")
    return discover(reserved, path).get(path.stem)


def source_hash(entry: Entry) -> str:
    """Return the SHA-256, as hex digits, of the code that makes an algorithm what it is.

    That is its file, and after it the files of the algorithms that it derives from, if any; of a
    file given by its path also the modules beside it that it imports.
    """
    files: dict[str, None] = {}
    for file, is_given in _files_of(entry.algorithm).items():
        files[file] = None
        if is_given:
            files |= dict.fromkeys(map(str, helpers_of(Path(file))))
    return content_digest(b"".join(Path(file).read_bytes() for file in files))


def _files_of(algorithm: type[Algorithm]) -> dict[str, bool]:
    """Return the files of a class and of those it derives from; whether each is given by path."""
    ours = Algorithm.__mro__
    own = [base for base in algorithm.__mro__ if issubclass(base, Algorithm) and base not in ours]
    return {inspect.getfile(base): base.__module__.startswith("<") for base in own}


def _built_in() -> Iterator[_Source]:
    for info in pkgutil.iter_modules(algorithms.__path__):
        module_name = f"{algorithms.__name__}.{info.name}"
        spec = importlib.util.find_spec(module_name)
        file = Path(spec.origin).resolve() if spec and spec.origin else None
        origin = _shown(file) if file else module_name
        yield _Source(info.name, origin, file, partial(_load_module, module_name))
    for folder in algorithms.__path__:
        for file in Path(folder).resolve().glob("[!.]*.*.py"):
            yield _Source(file.stem, _shown(file), file, _refuse_dots)


def _installed() -> Iterator[_Source]:
    for point in importlib.metadata.entry_points(group=GROUP):
        package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
        yield _Source(point.name, f"entry point {point.value}{package}", None, point.load)


def _loaded(source: _Source, reserved: Collection[str]) -> type[Algorithm]:
    found = _checked(source.load(), reserved)
    know_foreign(map(Path, _files_of(found)))
    return found


def _load_module(name: str) -> type[Algorithm]:
    return _only_class(importlib.import_module(name))


def _refuse_dots() -> None:
    raise UserError("a file's name may have no dot but that of .py: Python cannot import it")


def _load_file(path: Path) -> type[Algorithm]:
    return _only_class(load_with_helpers(path))


def _only_class(module: ModuleType) -> type[Algorithm]:
    """Return the public class of a module that is an algorithm; imported ones do not count."""
    classes = {
        value.__name__: value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Algorithm)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    }
    if len(classes) != 1:
        count = f"{len(classes)} classes ({', '.join(classes)})" if classes else "no class"
        raise UserError(
            f"{count} derived from genrec_bench.algorithm.Algorithm in it; there must be one, "
            "and helpers begin with an underscore"
        )
    return next(iter(classes.values()))


def _checked(found: object, reserved: Collection[str]) -> type[Algorithm]:
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise UserError(f"{found!r} is not a class derived from genrec_bench.algorithm.Algorithm")
    for name, text in (("module", sys.modules[found.__module__].__doc__), ("class", found.__doc__)):
        if not isinstance(text, str | None):
            raise UserError(f"the docstring of its {name} is {type(text).__name__}, and no text")
    for name in ("on_policy", "trains", "is_baseline"):
        if not isinstance(value := getattr(found, name), bool):
            raise UserError(f"{found.__name__}.{name} is {value!r}; it must be True or False")
    needed = ("reward", "advantage", "loss") if found.on_policy and found.trains else ()
    if missing := [name for name in needed if getattr(found, name) is getattr(Algorithm, name)]:
        hint = nearest(
            missing[0], [name for name in vars(found) if name[0] != "_" and name not in needed]
        )
        raise UserError(f"{found.__name__} does not define {' or '.join(missing)}{hint}")
    for name in CHANGED:
        given, wanted = (
            list(signature(getattr(cls, name)).parameters) for cls in (found, Algorithm)
        )
        if len(given) != len(wanted) and "args" not in given:
            raise UserError(
                f"{found.__name__}.{name} takes ({', '.join(given)}) and is given "
                f"({', '.join(wanted)}); {CHANGED[name]}"
            )
    declared: object = found.hyperparameters_class
    if not (isinstance(declared, type) and issubclass(declared, Hyperparameters)):
        raise UserError(
            f"{found.__name__}.hyperparameters_class is not a class derived from "
            "genrec_bench.training.hyperparameters.Hyperparameters"
        )
    # A class that inherits is a dataclass too, but the fields it adds would silently not exist.
    if "__dataclass_fields__" not in vars(declared):
        raise UserError(f"{declared.__name__} lacks the decorator @dataclass(frozen=True)")
    for field in dataclasses.fields(declared):
        if field.name in reserved:
            raise UserError(
                f"hyperparameter {field.name!r} of {declared.__name__} has the name of a setting "
                "of the harness; rename it"
            )
    declared()  # raises where a default is missing or out of its range
    return found


def _shown(path: Path) -> str:
    """Return a path as short as it can be written from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
