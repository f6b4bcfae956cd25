"""Processes of a launcher form one group, or are refused; `test_workers.py` has a group at work."""

from types import SimpleNamespace

import pytest
import torch
from tiny_runs import call, only_error

from genrec_bench.errors import UserError
from genrec_bench.training import workers
from genrec_bench.training.launchers import SIZES, launched


@pytest.fixture(autouse=True)
def nothing_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SIZES, "LOCAL_WORLD_SIZE", "SLURM_PROCID", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--plan"],
        ["sweep", "grpo", "--total-budget", "1h", "--trial-budget", "1m"],
        ["ablate", "ugr"],
        ["analyze", "dynamics"],
        ["bench"],
        ["data", "list"],
    ],
)
@pytest.mark.parametrize("name", SIZES)
def test_copies_of_a_command_are_refused_before_anything_happens(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    somewhere: None,
    words: list[str],
    name: str,
) -> None:
    monkeypatch.setenv(name, "2")
    monkeypatch.setattr("genrec_bench.data.obtain.obtain", None)
    said = only_error(call(capsys, words))
    assert said.startswith(f"{words[0]} is one of 2 processes that a launcher started")


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 1),
        ({"WORLD_SIZE": ""}, 1),
        ({"WORLD_SIZE": "1"}, 1),
        ({"WORLD_SIZE": "3", "OMPI_COMM_WORLD_SIZE": "2"}, 3),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, 2),
        ({"PMI_SIZE": "2"}, 2),
        # Tasks of Slurm are runs of their own, or the one command of a cluster.
        ({"PMI_SIZE": "2", "SLURM_PROCID": "0"}, 1),
    ],
)
def test_launchers_say_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], count: int
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == count


def found(
    monkeypatch: pytest.MonkeyPatch, count: int, gpus: int, asked: str, here: str = "1"
) -> UserError:
    """What is said of processes of which Accelerate finds so many, on a machine with GPUs."""

    def accelerator(cpu: bool = False) -> SimpleNamespace:
        return SimpleNamespace(num_processes=count, device=torch.device("cpu"), process_index=0)

    monkeypatch.setattr(workers, "Accelerator", accelerator)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpus > 0)
    monkeypatch.setenv("WORLD_SIZE", asked)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    with pytest.raises(UserError) as refused:
        workers.Workers()
    return refused.value


def test_a_group_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = str(found(monkeypatch, 1, 8, "4"))
    assert said.startswith("a launcher started 4 processes, of which Accelerate found 1")
    assert "torchrun --nproc-per-node 4 -m genrec_bench run" in said


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = str(found(monkeypatch, 4, 2, "4", here="4"))
    assert said.startswith("4 processes on this machine, which has 2 GPUs: start one for each GPU")


def test_a_number_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert only_error(call(capsys, ["run", "grpo"])).startswith("WORLD_SIZE=two: must be the")


def test_processes_that_cannot_find_each_other_are_told_how(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def accelerator(cpu: bool = False) -> None:
        raise ValueError("Error initializing\ntorch.distributed: MASTER_ADDR expected")

    monkeypatch.setattr(workers, "Accelerator", accelerator)
    monkeypatch.setattr("genrec_bench.data.obtain.obtain", None)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    said = only_error(call(capsys, ["run", "grpo"]))
    assert said.startswith(
        "cannot join the 2 processes that a launcher started: Error initializing"
    )
    assert said.endswith("start them by `torchrun --nproc-per-node 2 -m genrec_bench run ...`")
