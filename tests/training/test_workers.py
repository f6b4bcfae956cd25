"""Two processes do what one does. This file is also the program that each of the two runs."""

import faulthandler
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from shared_steps import ALGORITHMS, READ_AGAIN
from tiny_runs import run_folders, run_words, save_tiny, shrink_backbone, weights
from torch import nn

from genrec_bench.algorithm import Algorithm
from genrec_bench.commands.cli import main
from genrec_bench.contract.tiny_world import (
    HIDDEN_SIZE,
    tiny_catalog,
    tiny_examples,
    tiny_policy,
    tiny_trie,
)
from genrec_bench.errors import StorageError
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.runs.records import read_record
from genrec_bench.training.evaluate import evaluate
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.loop import total_spent
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.rollouts import Rollout
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.supervised_steps import Stepper, SupervisedStepper
from genrec_bench.training.workers import Workers

TESTS = Path(__file__).parents[1]
CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG, 7)
EMBEDDINGS = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")
PATIENCE = 120.0
"""Seconds after which two processes are taken to wait for each other in vain."""
RATES: dict[str, Any] = {
    "learning_rate": 0.01,
    "weight_decay": 0.01,
    "warmup": 0.0,
    "max_grad_norm": 1.0,
}


def fresh_policy(algorithm: Algorithm | None) -> Policy:
    """The policy that an algorithm starts from, with its heads and one that nobody uses."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads: dict[str, nn.Module] = {"unused": nn.Linear(4, 4)}
        heads |= (
            algorithm.heads(HIDDEN_SIZE, EMBEDDINGS.shape[1], tiny_trie(CATALOG))
            if algorithm
            else {}
        )
    tokens = algorithm.tokens if algorithm else ()
    return tiny_policy(CATALOG, extra_tokens=tokens, heads=heads, embeddings=EMBEDDINGS)


def two_steps(algorithm: Algorithm | None, workers: Workers, file: Path) -> dict[str, Any]:
    """Train in a tiny world; save the weights, and return what was logged and spent."""
    policy = fresh_policy(algorithm)
    ledger = policy.meter = Ledger(CPU)
    head_rate = algorithm.head_learning_rate if algorithm else None
    optimization = Optimization(policy, workers, head_learning_rate=head_rate, **RATES)
    # Adam makes full steps of gradients that are rounding errors, which no two sums share.
    plain = torch.optim.SGD(optimization.optimizer.param_groups)
    optimization.optimizer = plain  # type: ignore[assignment]
    stepper: Stepper
    if algorithm is None:
        stepper = SupervisedStepper(
            policy, EXAMPLES, optimization, ledger, workers, batch=3, seed=1, phase="update"
        )
    else:
        sizes: dict[str, Any] = {"group_size": 4, "prompts_per_step": 3, "seed": 1}
        if algorithm.uses_embeddings:
            sizes["embeddings"] = EMBEDDINGS
        stepper = RolloutStepper(
            policy, algorithm, EXAMPLES, optimization, ledger, workers, **sizes
        )
    held: list[int] = []
    if isinstance(stepper, RolloutStepper):
        rollouts = stepper._rollouts
        gather = rollouts.gather

        def watched(index: int, part: float = 1.0) -> Rollout:
            found = gather(index, part)
            held.append(len(found.places))
            return found

        rollouts.gather = watched  # type: ignore[method-assign]
    figures = [stepper.step(index, 0.5 * index) for index in range(2)]
    tensors = {
        f"{name}.{key}": value.contiguous()
        for name, module in stepper.modules().items()
        for key, value in module.state_dict().items()
    }
    save_file(tensors, file)
    spent = {
        phase: {kind: cost[kind] for kind in ("tokens", "flops")}
        for phase, cost in total_spent(ledger, workers).items()
    }
    return {"figures": figures, "spent": spent, "held": held, "state": stepper.state()}


def collectives(workers: Workers) -> dict[str, Any]:
    """Call what processes do together, on parts of unequal size."""
    rows = np.arange(5)
    mine = workers.mine(rows)
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
    parameters[0].grad = torch.full((2,), 6.0 / workers.count)
    if workers.index == workers.count - 1:
        parameters[1].grad = torch.tensor([1.0, 2.0])
    workers.sum_gradients([*parameters, frozen])
    first = np.full((len(workers.mine(rows[:1])), 2), 7, dtype=np.int32)
    return {
        "sum": workers.sum([len(mine), 2.0**40 + 1 if workers.is_main else 0]),
        "sum by name": workers.sum_named(
            ({} if workers.is_main and workers.count > 1 else {"late": 1.0}) | {"every": len(mine)}
        ),
        "interleave": workers.interleave(np.stack([mine, 10 * mine], 1).astype(np.int32)).tolist(),
        "one row": workers.interleave(first).tolist(),
        "agree": workers.agree(("main", None) if workers.is_main else None),
        "gradients": [None if p.grad is None else p.grad.tolist() for p in parameters],
    }


def work(folder: Path) -> dict[str, Any]:
    """Do all that is compared; every process of a group does, each with a folder of its own."""
    workers = Workers()
    result: dict[str, Any] = {"place": [workers.index, workers.count]}
    result["collectives"] = collectives(workers)
    for name, algorithm in ALGORITHMS.items():
        result[name] = two_steps(algorithm, workers, folder / f"{name}.safetensors")
    policy, quiet = tiny_policy(CATALOG), Progress(quiet=True)
    for name, examples in (("all", EXAMPLES), ("one", EXAMPLES.subset([0]))):
        found = evaluate(policy, examples, CATALOG, workers, 5, quiet, title="test")
        result[f"evaluation of {name}"] = [found.metrics, found.outcomes.to_dict("list")]
    return result


RUNS = {
    "steps": ("ugr", "prompts_per_step=3", "minibatches=2"),
    "budget": ("grpo", "--budget", "1500tok"),
    # The main process makes the embeddings and hands them to the other.
    "embeddings": ("vstar", "prompts_per_step=3"),
}


def do_everything(shared: Path) -> None:
    """What each process does: the tiny world, then whole runs."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        own = shared / f"process {os.environ.get('RANK', '0')}"
        own.mkdir()
        (own / "result.json").write_text(json.dumps(work(own)))
        for name, (algorithm, *words) in RUNS.items():
            given = run_words(algorithm, shared, shared / name, *words, "sft_epochs=0.5")
            assert main(given) == 0


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = save_tiny(tmp_path_factory.mktemp("one"))
    do_everything(shared)
    return shared


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = save_tiny(tmp_path_factory.mktemp("two"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What a launcher (torchrun, accelerate) says to the processes that it starts.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS / "support"))),
        # Only where there are GPUs: without any, a group on CPUs is what they form.
        **({"ACCELERATE_USE_CPU": "true"} if torch.cuda.is_available() else {}),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    logs = [shared / f"log {rank}" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(shared)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank, log in enumerate(logs)
    ]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and None in (codes := [one.poll() for one in processes]):
        if any(codes):
            break  # the other one would wait for ever
        time.sleep(0.1)
    for process in processes:
        process.kill()
        process.wait()
    assert codes == [0, 0], "\n".join(log.read_text()[-3000:] for log in logs)
    return shared


def result(shared: Path, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / f"process {index}" / "result.json").read_text())
    return found


def test_processes_know_their_places(one: Path, two: Path) -> None:
    assert result(one)["place"] == [0, 1]
    assert [result(two, index)["place"] for index in range(2)] == [[0, 2], [1, 2]]


def test_parts_make_the_whole_in_every_process(one: Path, two: Path) -> None:
    expected = {
        "sum": [5, 2**40 + 1],
        "sum by name": {"every": 5, "late": 1.0},
        "interleave": [[row, 10 * row] for row in range(5)],
        "one row": [[7, 7]],
        "agree": ["main", None],
        # Everyone's, the last process's, nobody's.
        "gradients": [[6.0, 6.0], [1.0, 2.0], None],
    }
    for found in (result(one), result(two, 0), result(two, 1)):
        assert found["collectives"] == expected


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_of_two_processes_is_a_step_of_one(name: str, one: Path, two: Path) -> None:
    single, first, second = result(one)[name], result(two, 0)[name], result(two, 1)[name]
    held, its_held = first.pop("held"), second.pop("held")
    assert [a + b for a, b in zip(held, its_held, strict=True)] == single["held"]
    if name == "picky":
        assert 0 in held + its_held and min(single["held"]) > 0, "one process holds nothing"
    assert first == second and first["state"] == single["state"]
    for expected, found in zip(single["figures"], first["figures"], strict=True):
        # Two processes add float32 in another order: a large norm differs in its seventh digit.
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert first["spent"].keys() == single["spent"].keys()
    for phase, cost in single["spent"].items():
        assert first["spent"][phase]["tokens"] == cost["tokens"]
        assert first["spent"][phase]["flops"] == pytest.approx(cost["flops"], rel=1e-12)
        # A head reads what the backbone has read, which in V-STAR's warm-up and before PPO's
        # updates the value pays for.
        assert (cost["tokens"] > 0) == (phase != "value" or name in READ_AGAIN) and cost[
            "flops"
        ] > 0

    alone = load_file(one / "process 0" / f"{name}.safetensors")
    start = fresh_policy(ALGORITHMS[name]).state_dict()
    moved = {"backbone": 0.0, "heads": 0.0}
    both = [load_file(two / f"process {index}" / f"{name}.safetensors") for index in range(2)]
    for key, expected in alone.items():
        assert torch.equal(both[0][key], both[1][key]), key
        found = both[0][key]
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6), key
        before = start.get(key.removeprefix("policy."))
        if before is not None and before.shape == expected.shape:
            part = key.split(".")[1]
            moved[part] = max(moved[part], float((expected - before).abs().max()))
    # Steps are a hundred times as large as what is forgiven, and more than weight decay alone makes
    # of them; the unused head stays as it is.
    assert moved["backbone"] > 1e-3
    assert moved["heads"] > 1e-3 if name in READ_AGAIN else moved["heads"] == 0


def test_evaluation_is_the_same_to_the_last_digit(one: Path, two: Path) -> None:
    for key in ("evaluation of all", "evaluation of one"):
        assert result(two, 0)[key] == result(two, 1)[key] == result(one)[key]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_two_processes_leaves_one_record_like_that_of_one(
    name: str, one: Path, two: Path
) -> None:
    (alone,), (together,) = run_folders(one / name), run_folders(two / name)
    expected, found = read_record(alone), read_record(together)
    assert found["hardware"]["processes"] == 2
    for part in ("valid", "test"):
        assert found["metrics"][part] == pytest.approx(expected["metrics"][part], abs=1e-5)
        assert found["sft"][part] == pytest.approx(expected["sft"][part], abs=1e-5)
    spent, its_spent = expected["budget"]["spent"], found["budget"]["spent"]
    assert its_spent.keys() == spent.keys() >= {"sft", "rollout", "update", "evaluation"}
    for phase, cost in spent.items():
        assert its_spent[phase]["tokens"] == cost["tokens"], phase
        assert its_spent[phase]["flops"] == pytest.approx(cost["flops"], rel=1e-9), phase
    ours = weights(together)
    for key, value in weights(alone).items():
        assert torch.allclose(ours[key], value, atol=1e-4), key


def test_workers_can_be_made_again_and_again() -> None:
    for _ in range(3):
        workers = Workers()
        assert (workers.index, workers.count, workers.device.type) == (0, 1, "cpu")
        workers.wait()
        assert workers.agree("x") == "x"
        assert workers.sum([1, 2]) == [1, 2]


if __name__ == "__main__":
    # A process that hangs tells where, just before its patience ends.
    faulthandler.dump_traceback_later(PATIENCE - 5)
    do_everything(Path(sys.argv[1]))


class Second(Workers):
    """The second of two processes, which is told what the main process found."""

    def __init__(self, told: object) -> None:
        super().__init__()
        self.index, self.told = 1, told

    def agree(self, value: Any) -> Any:
        return self.told


def test_other_processes_are_handed_the_result_or_the_reason() -> None:
    def never() -> object:
        raise AssertionError("only the main process works")

    def refuse() -> object:
        raise StorageError("the reason")

    found = object()
    assert Workers().from_main(lambda: found) is found
    assert Second(found).from_main(never) is found
    for workers, work in ((Workers(), refuse), (Second(StorageError("the reason")), never)):
        with pytest.raises(StorageError, match="the reason"):
            workers.from_main(work)
