"""ReRe: penalties over wrong candidates or over all, its reference, and its ratio."""

import pytest
import torch
from small_trees import group_of
from surrogates import gradient, seen_group, slope

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithms.rere import ReRe, ReReHyperparameters, penalty_of_wrong
from genrec_bench.contract.tiny_world import play, tiny_world

OURS = ReRe(ReReHyperparameters())


@pytest.mark.parametrize(
    ("probabilities", "hit", "wanted"),
    [
        # Discounts 1, 0.6309, 0.5; the hit stands second, and 1 + 0.5 are added up.
        ([0.4, 0.3, 0.2], 1, [-2 / 3, 1, -1 / 3]),
        # By probability and not by place, and nothing for an empty place.
        ([0.2, 0.4, 0.3, 0.0], 2, [-1 / 3, -2 / 3, 1, 0]),
        ([0.4, 0.3, 0.2], None, [0, 0, 0]),
        ([0.4, 0.0, 0.0], 0, [1, 0, 0]),
        ([0.4, 0.3], 0, [1, -1]),
    ],
)
def test_penalties_of_wrong_candidates_add_up_to_one(
    probabilities: list[float], hit: int | None, wanted: list[float]
) -> None:
    found = penalty_of_wrong(*group_of(probabilities, hit))
    assert found[0].tolist() == pytest.approx(wanted)


def test_the_codes_sum_runs_over_all_places_as_grpos_reward() -> None:
    seen = seen_group([0.4, 0.3, 0.2], hit=1)
    code = ReRe(ReReHyperparameters(penalty_over="all"))
    # 1 + 0.6309298 + 0.5 = 2.1309298.
    wanted = [-0.4692787, 1.0, -0.2346394]
    assert code.reward(seen)[0].tolist() == pytest.approx(wanted)
    assert OURS.reward(seen)[0].tolist() == pytest.approx([-2 / 3, 1, -1 / 3])
    grpo = GRPO(GRPOHyperparameters(reward="rule+rank"))
    assert torch.equal(code.reward(seen), grpo.reward(seen))
    plain = ReRe(ReReHyperparameters(reward="rule"))
    assert plain.reward(seen).tolist() == [[0, 1, 0]]


def test_the_codes_ratio_is_one_and_the_papers_is_clipped() -> None:
    code = ReRe(ReReHyperparameters(clipped=False))
    for ratio, ours, theirs in ((1.1, (-1.1, -1.1), (-1, -1)), (1.5, (-1.2, 0), (-1, -1))):
        assert slope(OURS, 0.2 * ratio, 0.2, 1.0) == pytest.approx(ours)
        assert slope(code, 0.2 * ratio, 0.2, 1.0) == pytest.approx(theirs)


def test_the_reference_follows_every_512_steps() -> None:
    assert OURS.uses_reference
    steps = {step: OURS.reference_mix(step) for step in (1, 511, 512, 513, 1024)}
    assert steps == {1: 0, 511: 0, 512: 0.6, 513: 0, 1024: 0.6}


def test_with_the_codes_choices_its_first_update_is_grpos() -> None:
    grpo = GRPO(GRPOHyperparameters(reward="rule+rank", beta=0.001))
    code = ReRe(ReReHyperparameters(penalty_over="all", clipped=False))
    world = tiny_world(grpo)
    mine, theirs = play(code, world), play(grpo, world)
    found = gradient(code, mine)
    assert torch.allclose(found, gradient(grpo, theirs), atol=1e-6) and found.any()
