"""Best of N lists: their worth, the fused target, and where the policy comes to rest."""

import math

import pytest
import torch
from small_trees import ONE_LEVEL
from torch import Tensor

from genrec_bench.algorithm import CandidateTree, Seen
from genrec_bench.algorithms.best_of_n import BestOfN, BestOfNHyperparameters
from genrec_bench.policy.prompts import Prompts
from genrec_bench.training.groups import Reference

TARGET, MISS = 7, 3


def drawn(sids: list[int], own: list[float], start: list[float], of_target: float) -> Seen:
    """One group of SIDs of one code, with probabilities under the policy and the start."""
    leaves = ONE_LEVEL.leaf(torch.tensor([sids]))
    tree = CandidateTree.build(ONE_LEVEL, leaves, torch.tensor(own).log().view(1, -1, 1))
    said = Reference(torch.tensor(start).log().view(1, -1, 1), torch.tensor([[of_target]]).log())
    none = torch.zeros(1, 0, dtype=torch.long)
    target = ONE_LEVEL.leaf(torch.tensor([TARGET]))
    return Seen(Prompts(none, none.bool()), tree, target, told=said)


def ours(**given: float) -> BestOfN:
    return BestOfN(BestOfNHyperparameters(**given))  # type: ignore[arg-type]


def same(values: list[list[float]]) -> Tensor:
    """Two draws of each list have its value."""
    return torch.tensor(values).repeat_interleave(2, dim=1)


GROUP = [TARGET, MISS, MISS, MISS, 4, 5, 4, TARGET, 9]
"""Lists of two: a hit at once, two without any, a hit at the second draw; one is left over."""

LEFT = torch.zeros(1, 1)


def test_a_draw_is_worth_what_its_list_is() -> None:
    seen = drawn(GROUP, [0.1] * 9, [0.1] * 9, 0.5)
    assert ours().misses(seen).tolist() == [[0, 2, 2, 1]]
    wanted = same([[1.0, 0.0, 0.0, 1 / math.log2(3)]])
    torch.testing.assert_close(ours().reward(seen), torch.cat([wanted, LEFT], dim=1))


@pytest.mark.parametrize(
    ("prior", "share"),
    [
        # Of four lists all, two, two and three are worth no more; of the start's, for p = 0.5,
        # all, a quarter, a quarter and a half.
        (0.0, [1, 0.5, 0.5, 0.75]),
        (4.0, [1, 0.375, 0.375, 0.625]),
        (12.0, [1, 0.3125, 0.3125, 0.5625]),
    ],
)
def test_evidence_is_fused_with_the_start(prior: float, share: list[float]) -> None:
    before, all_real = torch.tensor([[0, 2, 2, 1]]), torch.ones(1, 4, dtype=torch.bool)
    found = ours(prior=prior).share_below(before, all_real, torch.tensor([0.5]).log())
    assert found.tolist()[0] == pytest.approx(share)


def test_credit_is_of_a_list_against_the_others() -> None:
    seen = drawn(GROUP, [0.1] * 9, [0.1] * 9, 0.5)
    credit = 3 * torch.tensor([[1, 0.375, 0.375, 0.625]]).log()
    wanted = same((credit - credit.mean()).tolist())
    found = ours().advantage(seen, ours().reward(seen))
    torch.testing.assert_close(found, torch.cat([wanted, LEFT], dim=1))


def test_a_list_that_became_likelier_is_charged_for_it() -> None:
    # Both draws of the last list are twice as likely as at the start: 2 log 2, at a weight of 0.5.
    seen = drawn(GROUP, [0.1] * 9, [0.1] * 6 + [0.05, 0.05, 0.1], 0.5)
    free = ours(beta=0.0).advantage(seen, LEFT)
    found = ours(beta=0.5).advantage(seen, LEFT)
    charge = torch.tensor([[0.0, 0.0, 0.0, math.log(2)]])
    wanted = same((charge.mean() - charge).tolist())
    torch.testing.assert_close((found - free)[:, :8], wanted, rtol=1e-5, atol=1e-6)


def test_the_policy_rests_at_the_tilted_start() -> None:
    """With lists of one draw, N of them and a static target: pi of a hit is p / (p + (1 - p)^N)."""
    count, p = 4, 0.3
    at_rest = p / (p + (1 - p) ** count)
    sids = [TARGET, MISS, MISS, TARGET]
    own = [at_rest if sid == TARGET else 1 - at_rest for sid in sids]
    start = [p if sid == TARGET else 1 - p for sid in sids]
    seen = drawn(sids, own, start, p)
    static = ours(lists=count, prior=1e6)
    found = static.advantage(seen, torch.zeros(1, 4))
    torch.testing.assert_close(found, torch.zeros(1, 4), atol=1e-4, rtol=0)
    # A policy that has not moved learns, and less of its start alone where the target is rare.
    gains = []
    for probability in (0.3, 0.001):
        of_all = [probability if sid == TARGET else 1 - probability for sid in sids]
        seen = drawn(sids, of_all, of_all, probability)
        gains += [float(ours(lists=4, prior=k).advantage(seen, LEFT)[0, 0]) for k in (1e6, 4.0)]
    assert gains[0] == pytest.approx(-1.5 * math.log(0.7), rel=1e-3)
    assert gains[2] == pytest.approx(-1.5 * math.log(0.999), rel=1e-2) and gains[3] > 100 * gains[2]


def test_a_group_smaller_than_its_lists_has_lists_of_one() -> None:
    seen = drawn([MISS, TARGET], [0.1] * 2, [0.1] * 2, 0.5)
    assert ours(lists=4).misses(seen).tolist() == [[1, 0]]
    alone = drawn([TARGET], [0.1], [0.1], 0.5)
    assert ours().advantage(alone, LEFT).tolist() == [[0.0]]
