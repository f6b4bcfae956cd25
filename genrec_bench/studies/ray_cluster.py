"""A Ray cluster that carries out jobs. Ray places them, and says when one is gone.

All its machines see the same folders under the same names, and have this package and Ray installed.
A job's process takes as many processors as ``OMP_NUM_THREADS`` says, one if it says nothing, and a
GPU where the cluster has any. Ray itself tries nothing again: `parallel` counts deaths.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
from dataclasses import dataclass, field
from typing import Any

from genrec_bench.errors import UserError, one_line
from genrec_bench.runs.jobs import Context, Crew
from genrec_bench.studies.worker import Answer, Died, Task, answer_packed, packed
from genrec_bench.training.child_processes import SAFE, THREADS, package_place

MOST = 10_000
"""Jobs that wait at a cluster, where nobody says how many are done at once."""


@dataclass
class RayCluster:
    """The jobs on a cluster, from here; used in a ``with`` statement.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """

    crew: Crew
    context: Context
    _running: dict[Any, Task] = field(default_factory=dict)

    def __enter__(self) -> RayCluster:
        try:
            import ray
        except ImportError:
            raise UserError(
                f"--on {self.crew.cluster}: Ray is not installed; the extra "
                "genrec-bench[cluster] has it"
            ) from None
        self._ray = ray
        address = "auto" if self.crew.cluster == "ray" else self.crew.cluster
        threads = int(os.environ.get(THREADS) or 1)
        # Ray takes the signal over, and has its processes import from the folder where this one
        # stands: a file there must not stand for a library.
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with contextlib.chdir(package_place()):
                ray.init(
                    address=address,
                    logging_level=logging.ERROR,
                    runtime_env={"env_vars": {THREADS: str(threads), SAFE: "1"}},
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"--on {self.crew.cluster}: {one_line(error)}") from None
        finally:
            signal.signal(signal.SIGTERM, handler)
        has = ray.cluster_resources()
        gpus = 1 if has.get("GPU", 0) >= 1 else 0
        room = int(has["GPU"]) if gpus else int(has.get("CPU", 0)) // threads
        if not room:
            ray.shutdown()
            raise UserError(
                f"--on {self.crew.cluster}: the cluster has {has.get('CPU', 0):g} processors, "
                f"and a job takes {threads}; set {THREADS} to fewer"
            )
        self._remote = ray.remote(answer_packed).options(
            num_cpus=threads, num_gpus=gpus, max_retries=0
        )
        self._content = ray.put(packed(self.context))
        self.context.progress.say(
            f"Ray: room for {room} jobs now, each with {threads} "
            f"{'processor' if threads == 1 else 'processors'}{' and a GPU' if gpus else ''}"
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Whatever still runs ends with the connection; its checkpoints stay.
        self._ray.shutdown()

    @property
    def free(self) -> int:
        """How many more jobs may be begun."""
        # Ray knows best where there is room, and machines may still join.
        return (self.crew.count or MOST) - len(self._running)

    def start(self, task: Task) -> None:
        """Hand a job to the cluster."""
        reference = self._remote.remote(pickle.dumps(task.work), self._content, task.label)
        self._running[reference] = task

    def wait(self) -> tuple[Task, Answer | Died]:
        """Wait until a job ends, or its process does."""
        (reference,), _ = self._ray.wait(list(self._running), num_returns=1)
        task = self._running.pop(reference)
        try:
            came: Answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return task, Died(one_line(error))
        return task, came
