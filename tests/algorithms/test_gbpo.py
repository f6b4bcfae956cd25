"""GBPO: bounded ratios and credit of 1, -1 or 0, by hand."""

import pytest
import torch
from surrogates import seen_group, slope

from genrec_bench.algorithms.gbpo import GBPO, GBPOHyperparameters

OURS = GBPO(GBPOHyperparameters())


@pytest.mark.parametrize(
    ("now", "old", "advantage", "coefficient"),
    [
        # Right: pi over the larger of pi_old and pi.
        (0.25, 0.25, 1.0, 1.0),
        (0.2, 0.5, 1.0, 0.4),
        (0.5, 0.2, 1.0, 1.0),
        # Wrong: pi over the larger of pi_old and 1 - pi, on the policy min(1, pi / (1 - pi)).
        (0.25, 0.25, -1.0, 1 / 3),
        (0.8, 0.8, -1.0, 1.0),
        (0.6, 0.1, -1.0, 1.5),
        (0.1, 0.95, -2.0, 2 * 0.1 / 0.95),
        # The only code that there is.
        (1.0, 1.0, -1.0, 1.0),
    ],
)
def test_the_gradient_is_bounded(
    now: float, old: float, advantage: float, coefficient: float
) -> None:
    sign = -1 if advantage > 0 else 1
    wanted = sign * coefficient
    assert slope(OURS, now, old, advantage) == pytest.approx((wanted, wanted), rel=1e-5)


def test_credit_has_no_size() -> None:
    for hit, wanted in ((1, [-1, 1, -1, 0]), (None, [0, 0, 0, 0])):
        seen = seen_group([0.4, 0.3, 0.2, 0.0], hit)
        assert OURS.advantage(seen, OURS.reward(seen)).tolist() == [wanted]
    seen = seen_group([0.4, 0.3, 0.2, 0.1], None)
    for rewards, wanted in (([0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0]), ([3, 2, 1, 0], [1, 1, -1, -1])):
        assert OURS.advantage(seen, torch.tensor([rewards]).float()).tolist() == [wanted]


def test_credit_may_be_grpos() -> None:
    seen = seen_group([0.4, 0.3], hit=1)
    group = GBPO(GBPOHyperparameters(credit="group"))
    # Rewards 0 and 1: mean 0.5, deviation sqrt(0.5).
    found = group.advantage(seen, group.reward(seen))[0].tolist()
    assert found == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-3)
