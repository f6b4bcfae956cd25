"""What launchers (torchrun, ``accelerate launch``, mpirun) say to the processes that they start."""

from __future__ import annotations

import os

from genrec_bench.errors import StorageError, UserError

SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE")
"""Where launchers write how many processes there are; the first that is set counts."""


MEMBER = "GENREC_BENCH_MEMBER"
"""Set in processes that `--processes` started: a descriptor that breaks with whoever did."""

ALONE = 3
"""Exit code of such a process that lost another one; whoever started them tells which, and why."""


class OthersGone(StorageError):
    """A process of the group is gone; the run leaves no record and can go on."""


def launched() -> int:
    """Return how many processes a launcher started, this one among them; 1 without a launcher.

    Nothing is imported or joined to find out.

    Raises:
        UserError: a launcher's number is none.
    """
    for name in SIZES:
        text = os.environ.get(name, "")
        # Steps of Slurm are told by PMI too, where each is a run of its own, or Ray's.
        if text and not (name == "PMI_SIZE" and "SLURM_PROCID" in os.environ):
            if not text.isdecimal():
                raise UserError(f"{name}={text}: must be the number of processes, or unset")
            return max(int(text), 1)
    return 1


def check_alone(command: str) -> None:
    """Raise UserError where a launcher started several copies of a command that is one process."""
    count = launched()
    if count > 1:
        raise UserError(
            f"{command} is one of {count} processes that a launcher started, and each would do all "
            "of it; start it without the launcher (compare, sweep, ablate and analyze take "
            "--workers); only `run` shares its batches among the processes of a launcher"
        )
