"""genrec-bench: reinforcement learning for generative recommenders, compared fairly and fast."""

__version__ = "0.4.0"


def benchmark_version() -> str:
    """Return Major.Minor of the benchmark: records are comparable only where it is equal."""
    return ".".join(__version__.split(".")[:2])
