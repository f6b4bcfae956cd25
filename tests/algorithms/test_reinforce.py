"""REINFORCE: the mean of the batch, its deviation, and the gradient, by hand."""

from dataclasses import replace

import pytest
import torch
from small_trees import tree_of
from surrogates import HERE, gradient

from genrec_bench.algorithms.reinforce import Reinforce, ReinforceHyperparameters
from genrec_bench.contract.tiny_world import GROUP_SIZE, play, roll_out, tiny_world
from genrec_bench.training.groups import Seen

OURS = Reinforce(ReinforceHyperparameters())


def test_the_baseline_is_the_mean_of_all_real_candidates() -> None:
    tree = tree_of([0, 1, -1], [2, 3, -1])
    seen = replace(Seen.bare(tree, tree.leaves[:, 0]), asked=HERE)
    rewards = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = OURS.advantage(seen, rewards)
    assert found.flatten().tolist() == pytest.approx([0.75, -0.25, 0, -0.25, -0.25, 0])
    # Variance (0.5625 + 3 * 0.0625) / 4 = 0.1875.
    whitened = Reinforce(ReinforceHyperparameters(whiten=True)).advantage(seen, rewards)
    wanted = [3**0.5, -(3**-0.5), 0, -(3**-0.5), -(3**-0.5), 0]
    assert whitened.flatten().tolist() == pytest.approx(wanted, rel=1e-5)


def test_other_processes_share_the_mean() -> None:
    tree = tree_of([0, 1])

    class Twice:
        """As if another process had three candidates that earned 2 together."""

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            more = [2.0, 3.0] if len(values) == 2 else [0.0]
            return values + torch.tensor(more)

    seen = replace(Seen.bare(tree, tree.leaves[:, 0]), asked=Twice())  # type: ignore[arg-type]
    found = OURS.advantage(seen, torch.tensor([[1.0, 0.0]]))
    assert found[0].tolist() == pytest.approx([0.4, -0.6]), "3 of 5"


def test_the_gradient_is_credit_over_candidates_and_codes() -> None:
    world = tiny_world()
    played = play(OURS, world)
    found, credit = gradient(OURS, played), played.batch.advantages
    assert torch.allclose(found, -(credit / GROUP_SIZE / 3).unsqueeze(-1).expand_as(found))
    assert credit.any()


def test_candidates_are_draws() -> None:
    tree = roll_out(OURS, tiny_world(), 30)
    assert tree.valid.all(), "of twenty SIDs, so that some come twice"
