"""An opponent rolls out in the policy's place: which it is, who pays, and what may not have one."""

import pytest
import torch
from surrogates import weights_of

from genrec_bench.algorithm import CandidateTree, Policy, Prompts
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.played import Check
from genrec_bench.contract.stated import run_check
from genrec_bench.contract.trained import Training, check_bill, check_chunks, check_memory


class Opposed(GRPO):
    """GRPO on what the policy of every second step finds."""

    uses_opponent = True

    def opponent_mix(self, step: int) -> float:
        return float(step % 2 == 0)


def test_the_opponent_finds_what_is_learned_from() -> None:
    asked: list[torch.Tensor] = []

    class Watched(Opposed):
        def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
            asked.append(weights_of(policy))
            return super().rollout(policy, prompts, group_size)

    training = Training(Watched(GRPOHyperparameters(reward="rank")))
    after = [weights_of(training.policy)]
    for step in range(4):
        training.go(step, step + 1)
        after.append(weights_of(training.policy))
    assert all(not torch.equal(one, other) for one, other in zip(after, after[1:], strict=False))
    # The start's twice, then that of the second step twice.
    assert [torch.equal(one, after[place]) for one, place in zip(asked, (0, 0, 2, 2), strict=True)]
    opponent = training.stepper.modules()["opponent"]
    assert isinstance(opponent, Policy) and torch.equal(weights_of(opponent), after[4])


@pytest.mark.parametrize("check", [check_memory, check_chunks, check_bill])
def test_a_run_with_an_opponent_keeps_the_contract(check: Check) -> None:
    assert run_check(check, Opposed) is None


def test_what_its_rollout_costs_is_a_rollouts() -> None:
    spent = []
    for kind in (GRPO, Opposed):
        training = Training(kind(GRPOHyperparameters()))
        training.go(0, 1)
        spent.append({name: cost.flops for name, cost in training.ledger.spent.items()})
    assert spent[0] == spent[1] and spent[0]["rollout"] > 0
