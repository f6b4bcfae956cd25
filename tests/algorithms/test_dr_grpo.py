"""Dr. GRPO is GRPO without the deviation."""

import pytest
import torch
from surrogates import gradient, seen_group

from genrec_bench.algorithms.dr_grpo import DrGRPO, DrGRPOHyperparameters
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import groups, play, tiny_world

OURS = DrGRPO(DrGRPOHyperparameters())


def test_credit_is_in_units_of_the_reward() -> None:
    seen = seen_group([0.4, 0.3, 0.2, 0.0], hit=1)
    found = OURS.advantage(seen, OURS.reward(seen))
    assert found[0].tolist() == pytest.approx([-1 / 3, 2 / 3, -1 / 3, 0])


def test_gradients_are_those_of_grpo_without_the_deviation_and_of_grpo_but_for_it() -> None:
    world = tiny_world()
    group = groups(OURS, world)["a hit at the last rank"]
    ours = gradient(OURS, play(OURS, world, *group))
    for divided, factor in ((False, 1.0), (True, 6**-0.5)):
        grpo = GRPO(GRPOHyperparameters(divide_by_std=divided, epsilon=0.0))
        theirs = gradient(grpo, play(grpo, world, *group))
        # One hit among six: mean 1/6, variance (25 + 5) / 36 / 5 = 1/6.
        assert torch.allclose(ours, factor * theirs, atol=1e-6) and ours.any()
    # -A / (G L) at the code of a hit.
    assert float(ours.min()) == pytest.approx(-5 / 6 / 18)
