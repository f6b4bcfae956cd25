"""Jobs on a Ray cluster, here one of two processors on this machine; skipped where Ray is missing.

The cluster's processes start with what is in this process's environment.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import parallel_world as jobs
import psutil
import pytest
from sweep_world import Make
from tiny_runs import equal_weights, run_folders

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Crew, Job, do
from genrec_bench.studies import parallel
from genrec_bench.studies.parallel import Lost, carry_out
from genrec_bench.studies.worker import Task
from genrec_bench.training.child_processes import package_place

ray = pytest.importorskip("ray")

PATIENCE = 180.0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster that ends with the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = [str(jobs.SUPPORT), str(package_place()), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    address = f"127.0.0.1:{port}"
    # Sockets have short names, so pytest's long folders will not do.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        words = ["start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1"]
        words += ["--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder}"]
        words += ["--object-store-memory=100000000"]
        code = "from ray.scripts.scripts import main; main()"
        head = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not list(Path(folder).glob("session_latest/sockets/raylet*")):
                assert time.monotonic() < deadline and head.poll() is None
                time.sleep(0.2)
            monkeypatch.setenv("RAY_ADDRESS", address)
            yield address
        finally:
            started = psutil.Process(head.pid).children(recursive=True)
            head.send_signal(signal.SIGTERM)
            head.wait(timeout=60)
            for process in psutil.wait_procs(started, timeout=30)[1]:
                process.kill()


@pytest.mark.slow
def test_a_cluster_does_jobs_and_a_process_that_is_killed_is_replaced(
    cluster: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "MOST_DEATHS", 2)
    context = make()
    object.__setattr__(context, "crew", Crew(0, "ray"))
    place = tmp_path / "place"
    place.mkdir()
    (place / "rich.py").write_text("raise SystemExit('imported from where the user stands')\n")
    monkeypatch.chdir(place)
    job = Job("one", "grpo", ("steps=3",), 0)
    tasks = [
        Task("run", partial(jobs.run_and_die_once, job, tmp_path / "run")),
        Task("die", partial(jobs.die_once, tmp_path / "never" / "made")),
        Task("about", jobs.about),
        Task("sum", partial(jobs.add, 1, 2), ("about",)),
    ]
    ended: list[str] = []
    found = carry_out(tasks, context, lambda label, _: ended.append(label))
    assert sorted(ended) == ["about", "die", "run", "sum"] and found["sum"] == 3
    assert found["about"]["process"] != os.getpid() and found["about"]["folder"] == os.getcwd()
    assert found["about"]["threads"] == int(os.environ["OMP_NUM_THREADS"])
    assert isinstance(found["die"], Lost)
    assert found["die"].reason.startswith("2 processes died of it, the last one: ")

    # The same as in this process without a death, bit by bit.
    (cut,) = run_folders(context.output)
    assert found["run"] == cut / "record.json"
    object.__setattr__(context, "output", tmp_path / "undisturbed")
    assert equal_weights(do(job, context).parent, cut)

    # A job that takes more than there is, is told of and not waited for.
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with pytest.raises(UserError, match="the cluster has 2 processors, and a job takes 3"):
        carry_out([Task("about", jobs.about)], context)


def test_a_cluster_that_is_not_there_is_told_of(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make()
    object.__setattr__(context, "crew", Crew(1, "ray"))

    def init(**options: object) -> None:
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance.\nStart one.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match="^--on ray: Could not find any running Ray instance. St"):
        carry_out([Task("about", jobs.about)], context)
