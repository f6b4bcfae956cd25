"""DAPO: its bounds, its rule for prompts, and GRPO where both bounds are one."""

from dataclasses import replace

import pytest
import torch
from small_trees import group_of
from surrogates import gradient, moved, slope

from genrec_bench.algorithms.dapo import DAPO, DAPOHyperparameters
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import groups, play, tiny_world
from genrec_bench.training.groups import Seen

OURS = DAPO(DAPOHyperparameters())


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "derivative"),
    [
        (1.25, 1.0, -1.25, -1.25),  # GRPO would clip at 1.2
        (1.5, 1.0, -1.28, 0.0),
        (0.7, -1.0, 0.8, 0.0),
        (0.7, 1.0, -0.7, -0.7),
        (1.5, -1.0, 1.5, 1.5),
    ],
)
def test_the_ratio_may_rise_further_than_it_falls(
    ratio: float, advantage: float, loss: float, derivative: float
) -> None:
    assert slope(OURS, 0.2 * ratio, 0.2, advantage) == pytest.approx((loss, derivative))


def test_with_equal_clips_it_is_grpo() -> None:
    world, grpo = tiny_world(), GRPO(GRPOHyperparameters())
    equal = DAPO(DAPOHyperparameters(clip_high=0.2))
    for name, group in groups(equal, world).items():
        mine, theirs = play(equal, world, *group), play(grpo, world, *group)
        for ratios in ([1.0, 1.0, 1.0], [1.25, 0.7, 1.0], [3.0, 1.1, 0.9]):
            found = gradient(equal, mine, moved(mine, ratios))
            assert torch.equal(found, gradient(grpo, theirs, moved(theirs, ratios))), name
    played = play(OURS, world, *groups(OURS, world)["a hit at rank 0"])
    batch = moved(played, [1.25, 0.7, 1.0])
    assert not torch.equal(gradient(OURS, played, batch), gradient(grpo, played, batch))


@pytest.mark.parametrize(
    ("probabilities", "hit", "kept"),
    [
        ([0.4, 0.3, 0.2], 1, True),
        ([0.4, 0.3, 0.2], None, False),
        ([0.4, 0.0, 0.0], 0, False),
        ([0.4, 0.3, 0.0], 0, True),
    ],
)
def test_only_groups_that_are_partly_right_are_kept(
    probabilities: list[float], hit: int | None, kept: bool
) -> None:
    seen = Seen.bare(*group_of(probabilities, hit))
    assert OURS.accepts(seen, OURS.reward(seen)).tolist() == [kept]


def test_without_dynamic_sampling_no_prompt_is_drawn_again() -> None:
    assert OURS.most_refills == 9 and OURS.minibatches == 16 and not OURS.uses_reference
    assert DAPO(replace(OURS.hyperparameters, dynamic_sampling=False)).most_refills == 0
