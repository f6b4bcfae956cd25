"""How much memory some work takes beyond what is held before it."""

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from torch.profiler import ProfilerActivity, profile

from genrec_bench.training.workers import give_memory_back

PEAK_IS_KEPT = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="no peak of memory to read"
)


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that the process holds at most during some work, less those that it held before."""
    # What was freed before would be used again unseen.
    give_memory_back()
    Path("/proc/self/clear_refs").write_text("5")
    before = _held("VmRSS")
    work()
    return _held("VmHWM") - before


def tensors_of(work: Callable[[], object]) -> int:
    """Bytes of the tensors that live at once during some work, made by it; the same each time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    untyped: Any = seen.profiler
    events = [one for one in untyped.kineto_results.events() if one.name() == "[memory]"]
    changes = [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]
    assert changes
    return int(max(accumulate(changes)))


def _held(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
