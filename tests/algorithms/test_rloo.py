"""RLOO: the others' mean, the divergence in the reward, and Dr. GRPO but for a factor."""

from dataclasses import replace

import pytest
import torch
from surrogates import gradient, seen_group

from genrec_bench.algorithms.dr_grpo import DrGRPO, DrGRPOHyperparameters
from genrec_bench.algorithms.rloo import RLOO, RLOOHyperparameters
from genrec_bench.contract.tiny_world import groups, play, tiny_world
from genrec_bench.training.group_credit import needs_company
from genrec_bench.training.groups import Reference

OURS = RLOO(RLOOHyperparameters(beta=0.0))


@pytest.mark.parametrize(
    ("probabilities", "wanted"),
    [
        ([0.4, 0.3, 0.2], [1, -0.5, -0.5]),
        ([0.4, 0.3, 0.0], [1, -1, 0]),
        ([0.4, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_no_candidate_is_its_own_baseline(probabilities: list[float], wanted: list[float]) -> None:
    seen = seen_group(probabilities, hit=0)
    assert OURS.advantage(seen, OURS.reward(seen))[0].tolist() == pytest.approx(wanted)


def test_the_divergence_is_taken_from_the_reward() -> None:
    ours = RLOO(RLOOHyperparameters(beta=0.1))
    seen = seen_group([0.4, 0.2, 0.0], hit=0)
    # The policy says 0.4 and 0.2, the reference 0.1 and 0.2.
    said = torch.tensor([0.1, 0.2, 0.5]).log().view(1, 3, 1)
    found = ours.advantage(replace(seen, told=Reference(said)), ours.reward(seen))
    # 1 - 0.1 ln 4 against 0.
    assert found[0].tolist() == pytest.approx([0.8613706, -0.8613706, 0])
    assert ours.uses_reference and not OURS.uses_reference


def test_without_divergence_it_is_dr_grpo_times_g_over_g_less_one() -> None:
    dr_grpo, world = DrGRPO(DrGRPOHyperparameters()), tiny_world()
    # Both learn from one beam: what differs is the credit, and that one has a ratio of 1.
    tree = groups(dr_grpo, world)
    for name in ("a rollout", "a hit at rank 0", "a hit at the last rank", "no hit"):
        mine, theirs = (gradient(one, play(one, world, *tree[name])) for one in (OURS, dr_grpo))
        assert torch.allclose(mine, 6 / 5 * theirs, atol=1e-6), name
        assert bool(mine.any()) is (name != "no hit")


@pytest.mark.parametrize("beta", [0.0, 0.03])
def test_a_candidate_alone_teaches_nothing(beta: float) -> None:
    assert needs_company(RLOO(RLOOHyperparameters(beta=beta)))
