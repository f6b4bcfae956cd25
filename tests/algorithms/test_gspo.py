"""GSPO: one ratio a candidate, and GRPO where it is 1."""

import pytest
import torch
from surrogates import gradient, moved

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithms.gspo import GSPO, GSPOHyperparameters
from genrec_bench.contract.tiny_world import groups, play, tiny_world

OURS = GSPO(GSPOHyperparameters())
WIDE = GSPO(GSPOHyperparameters(clip_low=0.2, clip_high=0.2))


@pytest.mark.parametrize(
    ("ours", "ratios", "advantage", "loss", "derivative"),
    [
        # The cube root of 2 * 1 * 0.5 is 1: every code gets a third of the candidate's.
        (OURS, [2.0, 1.0, 0.5], 1.0, -1.0, -1 / 3),
        # The cube root of 1.331 is 1.1.
        (WIDE, [1.331, 1.0, 1.0], 1.0, -1.1, -1.1 / 3),
        (OURS, [1.331, 1.0, 1.0], 1.0, -1.0004, 0.0),
        (OURS, [1.331, 1.0, 1.0], -1.0, 1.1, 1.1 / 3),
        (OURS, [0.729, 1.0, 1.0], -1.0, 0.9997, 0.0),
    ],
)
def test_a_candidate_is_weighed_and_clipped_as_a_whole(
    ours: GSPO, ratios: list[float], advantage: float, loss: float, derivative: float
) -> None:
    log_probs = torch.full((1, 1, 3), -2.0, requires_grad=True)
    old = log_probs.detach() - torch.tensor(ratios).log()
    value = ours.surrogate(log_probs, old, torch.full((1, 1, 1), advantage))
    (found,) = torch.autograd.grad(value.sum(), [log_probs])
    assert value.shape == (1, 1, 1) and float(value.detach()) == pytest.approx(loss)
    assert found.flatten().tolist() == pytest.approx([derivative] * 3)


def test_where_the_policy_has_not_moved_it_is_grpo() -> None:
    for beta in (0.0, 0.1):
        ours = GSPO(GSPOHyperparameters(reward="rank", beta=beta))
        grpo = GRPO(GRPOHyperparameters(reward="rank", beta=beta))
        world = tiny_world(grpo)
        for name, group in groups(ours, world).items():
            mine, theirs = play(ours, world, *group), play(grpo, world, *group)
            still = [1.0, 1.0, 1.0]
            found = gradient(ours, mine, moved(mine, still))
            wanted = gradient(grpo, theirs, moved(theirs, still))
            assert torch.allclose(found, wanted, atol=1e-6), name
    played = play(ours, world)
    batch = moved(played, [2.0, 1.0, 0.5])
    assert not torch.allclose(gradient(ours, played, batch), gradient(grpo, played, batch))
