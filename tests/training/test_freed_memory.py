"""Freed memory is used again: the kernel need not hand out new pages in every forward pass."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from genrec_bench.training.workers import keep_freed_memory

keep_freed_memory()
arrays = [int(size) for size in sys.argv[1:]]

def once():
    kept = [torch.ones(size * 2**20 // 4) for size in arrays]
    del kept

once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator alone is told")
@pytest.mark.parametrize("mebibytes", [(1,) * 20, (3,) * 8, (8,) * 6])
def test_arrays_are_made_in_pages_that_are_there(mebibytes: tuple[int, ...]) -> None:
    words = [sys.executable, "-c", PROGRAM, *map(str, mebibytes)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    # Left alone, glibc asks for the pages of 256 to a mebibyte twenty times.
    assert int(done.stdout) < 4 * sum(mebibytes) * 256


GIVEN_BACK = """
import psutil, torch
from genrec_bench.training.workers import give_memory_back, keep_freed_memory

keep_freed_memory()
arrays = [torch.ones(2**18) for _ in range(200)]
held = psutil.Process().memory_info().rss
last = arrays[-1]
del arrays
give_memory_back()
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator alone is told")
def test_what_is_freed_between_trainings_is_given_back() -> None:
    words = [sys.executable, "-c", GIVEN_BACK]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    # Left alone, glibc keeps what lies below an array that is still there.
    assert int(done.stdout) > 150 * 2**20
