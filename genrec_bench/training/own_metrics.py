"""Metrics of one's own: functions of ranked lists in a file, which stand beside the benchmark's.

A figure is called `own/` and the function's name. `docs/metrics.md` has an example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Catalog, Dataset, Examples
from genrec_bench.errors import UserError, no_file
from genrec_bench.storage.digests import content_digest
from genrec_bench.storage.python_files import guarded, load_python

OWN = "own/"
"""What the names of such figures begin with."""

TRIED = 32
"""Examples that a metric is tried on before anything is trained."""

_MARK = "is_metric_of_ranked_lists"


@dataclass(frozen=True, eq=False)
class RankedLists:
    """What a metric is given: the lists of one split, and what is known of items and users.

    Attributes:
        items: [n, W] item indices, best first, -1 in places left over; W is the beam width.
        examples: [n] the histories, users (as indices) and targets that the lists are for.
        catalog: names, titles, SIDs and popularity in training, by item index.
    """

    items: NDArray[np.int32]
    examples: Examples
    catalog: Catalog

    @property
    def targets(self) -> NDArray[np.int32]:
        """[n] item indices."""
        return self.examples.targets

    @property
    def hits(self) -> NDArray[np.bool_]:
        """[n, W] whether an item of a list is the target."""
        return np.asarray(self.items == self.targets[:, None])


ListFunction = Callable[[RankedLists], float]


def metric(function: ListFunction) -> ListFunction:
    """Register a function as a metric: it takes ranked lists and returns one finite number."""
    setattr(function, _MARK, True)
    return function


@dataclass(frozen=True, eq=False)
class OwnMetrics:
    """The metrics of a file.

    Attributes:
        sha256: of the file as it was loaded.
        functions: by the names of their figures.
    """

    file: Path
    sha256: str
    functions: Mapping[str, ListFunction]

    def figures(self, lists: RankedLists) -> dict[str, float]:
        """Compute all of them.

        Raises:
            UserError: one of them raises, or returns what is no finite number.
        """
        return {
            name: self._figure(name, function, lists) for name, function in self.functions.items()
        }

    def try_out(self, dataset: Dataset, beam_width: int) -> None:
        """Compute all of them once, of lists drawn at random for a few validation examples.

        Raises:
            UserError: as `figures`, so that a fault is found before anything is trained.
        """
        examples = dataset.valid.subset(np.arange(min(TRIED, len(dataset.valid))))
        items = np.full((len(examples), beam_width), -1, dtype=np.int32)
        generator = np.random.default_rng(0)
        for row in items:
            drawn = generator.permutation(dataset.catalog.num_items)[:beam_width]
            row[: len(drawn)] = drawn
        self.figures(RankedLists(items, examples, dataset.catalog))

    def _figure(self, name: str, function: ListFunction, lists: RankedLists) -> float:
        lists.items.flags.writeable = False

        def figure() -> float:
            found = function(lists)
            if isinstance(found, bool) or not isinstance(found, Real) or not math.isfinite(found):
                what = f"{type(found).__name__} {' '.join(repr(found).split())[:40]}"
                raise UserError(f"returned {what}; it must return one finite number")
            return float(found)

        return guarded(figure, f"metrics={self.file}: {name}: ", self.file.resolve())


def load_metrics(path: Path) -> OwnMetrics:
    """Load a file's metrics: its functions with the decorator ``metric``.

    Raises:
        UserError: there is no such file, it cannot be loaded, or no function in it is a metric.
    """
    if path.suffix != ".py":
        raise UserError(f"metrics={path}: must be a Python file, NAME.py")
    if not path.is_file():
        raise UserError(f"metrics={path}: {no_file(path)}")
    sha256 = content_digest(path.read_bytes())
    module = guarded(partial(load_python, path), f"metrics={path}: ", path.resolve())
    functions = {
        OWN + name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, _MARK, False) is True
    }
    if not functions:
        raise UserError(
            f"metrics={path}: no function in it is a metric; write @metric above one, "
            "`from genrec_bench.algorithm import metric`"
        )
    return OwnMetrics(path, sha256, functions)
