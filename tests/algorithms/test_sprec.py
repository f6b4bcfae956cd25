"""SPRec: which half a step belongs to, whose the rejected are, and what the reference is."""

from dataclasses import dataclass

import pytest
import torch
from surrogates import weights_of

from genrec_bench.algorithm import CandidateTree, Policy, Prompts, fixed
from genrec_bench.algorithms.sprec import SPRec, SPRecHyperparameters
from genrec_bench.contract.played import Check
from genrec_bench.contract.stated import run_check
from genrec_bench.contract.trained import Training, check_chunks, check_memory


def test_halves_follow_each_other() -> None:
    ours = SPRec(SPRecHyperparameters(half_steps=3))
    rolled = []
    for step in range(12):
        ours.begin_step(step, 0.5)
        rolled.append(ours.rolls_out)
    assert rolled == 2 * ([False] * 3 + [True] * 3)
    # After a step, counted from one.
    assert [step for step in range(1, 13) if ours.reference_mix(step)] == [3, 9]
    assert [step for step in range(1, 13) if ours.opponent_mix(step)] == [6, 12]


@dataclass(frozen=True)
class ShortHyperparameters(SPRecHyperparameters):
    """Halves of a step."""

    half_steps: int = fixed(1, low=1, high=9, help="steps of SFT, then of DPO, in turn")


class Short(SPRec):
    """Two iterations in four steps."""

    hyperparameters_class = ShortHyperparameters


def test_what_is_rejected_is_of_before_the_iteration_and_the_reference_of_its_middle() -> None:
    asked: list[torch.Tensor] = []

    class Watched(Short):
        def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
            asked.append(weights_of(policy))
            tree = super().rollout(policy, prompts, group_size)
            assert tree.valid.sum(dim=1).tolist() == [1] * len(prompts)
            return tree

    training = Training(Watched(ShortHyperparameters()))
    after, kept = [weights_of(training.policy)], []
    for step in range(4):
        (figures,) = training.go(step, step + 1)
        assert figures.get("supervised", 0.0) == (step % 2 == 0)
        after.append(weights_of(training.policy))
        modules = training.stepper.modules()
        kept.append([weights_of(modules[name]) for name in ("reference", "opponent")])
    assert all(not torch.equal(one, other) for one, other in zip(after, after[1:], strict=False))
    assert len(asked) == 2
    assert torch.equal(asked[0], after[0]) and torch.equal(asked[1], after[2])
    for (reference, opponent), (middle, before) in zip(
        kept, ((1, 0), (1, 2), (3, 2), (3, 4)), strict=True
    ):
        assert torch.equal(reference, after[middle]) and torch.equal(opponent, after[before])


@pytest.mark.parametrize("check", [check_memory, check_chunks])
def test_a_run_of_both_halves_goes_on_to_the_bit(check: Check) -> None:
    assert run_check(check, Short) is None
