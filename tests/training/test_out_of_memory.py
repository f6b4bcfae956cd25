"""Memory that does not suffice: the batch is begun again in smaller passes, with one result."""

from typing import Any

import pytest
import torch
from torch import Tensor
from watched_steps import CATALOG, EXAMPLES, rollout_stepper

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import tiny_policy
from genrec_bench.errors import UserError
from genrec_bench.policy.attention import Layout
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.training.evaluate import evaluate
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.out_of_memory import in_smaller_passes, is_out_of_memory
from genrec_bench.training.supervised_steps import SupervisedStepper
from genrec_bench.training.workers import Workers

ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cpu": RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
    "python": MemoryError(),
}


class Small:
    """A machine on which no pass of more than some tokens can be done."""

    def __init__(self, patch: pytest.MonkeyPatch, most: int, error: Exception) -> None:
        self.failed = 0
        whole = Policy.hidden

        def hidden(
            policy: Policy,
            tokens: Tensor,
            positions: Tensor,
            layout: Layout,
            *rest: Any,
            **more: Any,
        ) -> Tensor:
            # As on a machine, what was done before has been charged, and its gradients are there.
            found = whole(policy, tokens, positions, layout, *rest, **more)
            if len(tokens) > most:
                self.failed += 1
                raise error
            return found

        patch.setattr(Policy, "hidden", hidden)


def weights(policy: Policy) -> Tensor:
    return torch.cat([p.detach().flatten() for p in policy.parameters()])


def rolled_out(tokens: int) -> tuple[dict[str, float], Tensor, dict[str, tuple[int, float]]]:
    texts = {"beta": "0.1", "minibatches": "2", "updates_per_rollout": "2"}
    algorithm = GRPO(from_words(GRPOHyperparameters, texts))
    stepper, policy, _, ledger = rollout_stepper(algorithm, tokens)
    for index in range(2):
        figures = stepper.step(index, 0.0)
    return figures, weights(policy), {k: (c.tokens, c.flops) for k, c in ledger.spent.items()}


def supervised(tokens: int) -> tuple[dict[str, float], Tensor, dict[str, tuple[int, float]]]:
    policy = tiny_policy(CATALOG)
    policy.tokens_per_forward = tokens
    ledger = policy.meter = Ledger(torch.device("cpu"))
    sizes: dict[str, Any] = {
        "weight_decay": 0.0,
        "warmup": 0.0,
        "max_grad_norm": 1.0,
        "learning_rate": 0.01,
    }
    parts = (EXAMPLES, Optimization(policy, Workers(), **sizes), ledger, Workers())
    stepper = SupervisedStepper(policy, *parts, batch=12, seed=0, phase="sft")
    for index in range(2):
        figures = stepper.step(index, 0.0)
    return figures, weights(policy), {k: (c.tokens, c.flops) for k, c in ledger.spent.items()}


@pytest.mark.parametrize("kind", list(ERRORS))
@pytest.mark.parametrize("work", [rolled_out, supervised])
def test_a_batch_is_begun_again_and_comes_to_the_same(
    monkeypatch: pytest.MonkeyPatch, kind: str, work: Any
) -> None:
    expected = work(64)
    # Half of half of it is 64.
    machine = Small(monkeypatch, 64, ERRORS[kind])
    figures, trained, spent = work(256)
    assert machine.failed
    assert figures == pytest.approx(expected[0], rel=1e-4, abs=1e-6)
    torch.testing.assert_close(trained, expected[1], rtol=1e-3, atol=1e-3)
    # What came to nothing was not charged.
    assert spent == {k: (n, pytest.approx(f)) for k, (n, f) in expected[2].items()}


def test_an_evaluation_goes_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def ranks(tokens: int) -> list[int]:
        policy = tiny_policy(CATALOG)
        policy.tokens_per_forward = tokens
        quiet = Progress(quiet=True)
        found = evaluate(policy, EXAMPLES, CATALOG, Workers(), 5, quiet, title="test")
        return list(found.outcomes["item_rank"])

    expected = ranks(64)
    machine = Small(monkeypatch, 64, ERRORS["gpu"])
    assert ranks(1024) == expected and machine.failed


def test_passes_that_cannot_be_smaller_end_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    Small(monkeypatch, 0, ERRORS["gpu"])
    with pytest.raises(UserError, match="memory does not suffice for passes of 16 tokens; take"):
        supervised(64)


def test_other_errors_are_what_they_are() -> None:
    policy = tiny_policy(CATALOG)

    def fail() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_smaller_passes(policy, fail)
    assert policy.tokens_per_forward == 4096 and not is_out_of_memory(ValueError("memory"))
