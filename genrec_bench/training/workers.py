"""The processes of a run. Accelerate starts them and gives each its device.

A batch is the same whatever the number of processes: each takes every n-th prompt of it, losses are
divided by the size of the whole, and gradients are added up.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from textwrap import shorten
from typing import TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from numpy.typing import NDArray
from torch import Tensor, nn

from genrec_bench.errors import UserError, one_line
from genrec_bench.training.launchers import OthersGone, launched

T = TypeVar("T")

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

WORDS = "`torchrun --nproc-per-node {count} -m genrec_bench run ...`"
"""Start processes that find each other, on one machine."""


MMAP_THRESHOLD, TRIM_THRESHOLD = 32 * 2**20, 64 * 2**20
"""Bytes of an array that is got from the system by itself, the most that glibc takes; and of freed
memory at the heap's end that is kept."""


def keep_freed_memory() -> None:
    """Let freed arrays be used again, and not be given back to the system each time.

    Left alone, glibc may return and take back the same pages in every forward pass, and the kernel
    fills each with zeros: a fifth of an evaluation, in some processes and not in others.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # Other C libraries have no such options, or take none of them.
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def give_memory_back() -> None:
    """Let the system have what is freed by now: between two trainings, of which one is over."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Workers:
    """This process among all of them."""

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        """Join the processes that a launcher started, on GPUs or CPUs; without one, be alone.

        Raises:
            UserError: they do not find each other, or are more than this machine has GPUs.
        """
        keep_freed_memory()
        self._accelerator = accelerator or _joined(launched())
        self.device: torch.device = self._accelerator.device
        self.count: int = self._accelerator.num_processes
        self.index: int = self._accelerator.process_index

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.index == 0

    def mine(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of a batch."""
        return rows[self.index :: self.count]

    def sum(self, values: Iterable[float]) -> list[float]:
        """Add up numbers over all processes."""
        values = list(values)
        if self.count == 1:
            return values
        # 64 bits, so that token counts stay exact.
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        reduced = self._added(total)
        return [float(value) for value in reduced.tolist()]

    def sum_named(self, values: Mapping[str, float]) -> dict[str, float]:
        """Add up numbers by name over all processes; the result has every name that any has."""
        if self.count == 1:
            return dict(values)
        total: dict[str, float] = {}
        for part in self._together(lambda: gather_object([dict(values)])):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up gradients over all processes, in place."""
        if self.count == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        reached = torch.tensor([float(p.grad is not None) for p in trained], device=self.device)
        reached = self._added(reached) > 0
        # A parameter that no prompt reached keeps no gradient, as in a single process: given zeros,
        # the optimizer would decay it. One reached in some processes gets zeros in the others.
        trained = [
            p for p, any_gradient in zip(trained, reached.tolist(), strict=True) if any_gradient
        ]
        if not trained:
            return
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.flatten() for p in trained if p.grad is not None])
        flat = self._added(flat)
        start = 0
        for parameter in trained:
            end = start + parameter.numel()
            parameter.grad = flat[start:end].view_as(parameter).clone()
            start = end

    def interleave(self, part: NDArray[np.int32]) -> NDArray[np.int32]:
        """Put the parts [n_i, ...] that ``mine`` gave back in order: [n, ...] in every process."""
        if self.count == 1:
            return part
        parts: list[NDArray[np.int32]] = self._together(lambda: gather_object([part]))
        total = sum(len(rows) for rows in parts)
        whole = np.empty((total, *part.shape[1:]), dtype=part.dtype)
        for index, rows in enumerate(parts):
            whole[index :: self.count] = rows
        return whole

    def agree(self, value: T) -> T:
        """Return what the main process has."""
        if self.count == 1:
            return value
        agreed: list[T] = self._together(lambda: broadcast_object_list([value]))
        return agreed[0]

    def from_main(self, work: Callable[[], T]) -> T:
        """Do something in the main process only, and return what came of it in every process.

        Raises:
            UserError: as ``work`` did, in every process.
        """
        found: T | UserError | None = None
        if self.is_main:
            try:
                found = work()
            except UserError as error:
                # The other processes stop for the same reason. The error travels without its
                # traceback and cause, which may not be sendable.
                found = type(error)(str(error))
        agreed = self.agree(found)
        if isinstance(agreed, UserError):
            raise agreed
        return cast(T, agreed)

    def wait(self) -> None:
        """Wait until every process is here."""
        self._together(self._accelerator.wait_for_everyone)

    def _added(self, part: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        total: Tensor = self._together(lambda: self._accelerator.reduce(part, reduction="sum"))
        return total

    def _together(self, work: Callable[[], T]) -> T:
        """Do something that all processes do.

        Raises:
            OthersGone: one of them is not there any more.
        """
        try:
            return work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.count == 1:
                raise
            # Libraries say much of it, with the place of their source first.
            reason = shorten(one_line(error), 160, placeholder=" ...")
            raise OthersGone(
                f"another of the {self.count} processes of this run is gone ({reason}); the same "
                "command again goes on from the last checkpoint"
            ) from error


def _joined(count: int) -> Accelerator:
    """Join a group of ``count`` processes; Accelerate alone would join none on CPUs."""
    if count == 1:
        return Accelerator()
    on_cpus = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE") or 1), torch.cuda.device_count()
    if not on_cpus and 0 < gpus < here:
        raise UserError(
            f"{here} processes on this machine, which has {gpus} GPUs: start one for each GPU, or "
            "set ACCELERATE_USE_CPU=true for all"
        )
    try:
        accelerator = Accelerator(cpu=on_cpus)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cannot join the {count} processes that a launcher started: {one_line(error)}; start "
            f"them by {WORDS.format(count=count)}"
        ) from error
    if accelerator.num_processes != count:
        raise UserError(
            f"a launcher started {count} processes, of which Accelerate found "
            f"{accelerator.num_processes}, and each would do the whole run; start them by "
            f"{WORDS.format(count=count)}"
        )
    return accelerator
