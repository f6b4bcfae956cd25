"""genrec-bench: reinforcement learning for generative recommenders, compared fairly and fast.

What Python programs and notebooks use is here: `run`, `compare`, `load_records` and `load_policy`.
Nothing is imported until it is asked for.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from genrec_bench.commands.python_api import (
        Comparison,
        compare,
        load_policy,
        load_records,
        run,
    )
    from genrec_bench.errors import UserError
    from genrec_bench.runs.recommender import Recommender
    from genrec_bench.runs.record_schema import Record

__all__ = [
    "Comparison",
    "Recommender",
    "Record",
    "UserError",
    "compare",
    "load_policy",
    "load_records",
    "run",
]

__version__ = "0.4.0"

_HOMES = {
    "Recommender": "genrec_bench.runs.recommender",
    "Record": "genrec_bench.runs.record_schema",
    "UserError": "genrec_bench.errors",
}
"""Where the names of `__all__` come from that are not of the Python API's own module."""


def __getattr__(name: str) -> object:
    """Import what is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES.get(name, "genrec_bench.commands.python_api")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return sorted({*globals(), *__all__})


def benchmark_version() -> str:
    """Return Major.Minor of the benchmark: records are comparable only where it is equal."""
    return ".".join(__version__.split(".")[:2])
