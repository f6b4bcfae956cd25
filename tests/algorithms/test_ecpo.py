"""ECPO: what it does to the ratios of negative candidates, and GRPO elsewhere."""

import pytest
import torch
from surrogates import gradient, moved, slope

from genrec_bench.algorithms.ecpo import ECPO, ECPOHyperparameters
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import play, tiny_world

OURS, THEIRS = ECPO(ECPOHyperparameters()), GRPO(GRPOHyperparameters())


@pytest.mark.parametrize(
    ("ratio", "advantage", "ours", "theirs"),
    [
        # At most 1 + 0.2 + 0.1, and the gradient stays.
        (3.0, -1.0, (1.3, 1.3), (3.0, 3.0)),
        (1.25, -1.0, (1.25, 1.25), (1.25, 1.25)),
        # Below 1 - 0.2, and above 1 + 0.2 for a positive one, both are clipped.
        (0.5, -1.0, (0.8, 0.0), (0.8, 0.0)),
        (3.0, 1.0, (-1.2, 0.0), (-1.2, 0.0)),
        (0.5, 1.0, (-0.5, -0.5), (-0.5, -0.5)),
    ],
)
def test_ratios_of_negative_candidates_are_bounded(
    ratio: float, advantage: float, ours: tuple[float, float], theirs: tuple[float, float]
) -> None:
    assert slope(OURS, 0.2 * ratio, 0.2, advantage) == pytest.approx(ours)
    assert slope(THEIRS, 0.2 * ratio, 0.2, advantage) == pytest.approx(theirs)


def test_it_is_grpo_until_a_ratio_is_large() -> None:
    world = tiny_world()
    played = play(OURS, world)
    for ratios, equal in (
        ([1.0, 1.0, 1.0], True),
        ([1.29, 0.6, 1.1], True),
        ([2.0, 1.0, 1.0], False),
    ):
        batch = moved(played, ratios)
        ours, theirs = gradient(OURS, played, batch), gradient(THEIRS, played, batch)
        assert torch.allclose(ours, theirs, atol=1e-6) is equal and ours.any()
