"""FLAME: potentials and credit by hand, and GRPO where no code has credit of its own."""

import pytest
import torch
from small_trees import tree_of

from genrec_bench.algorithm import Seen
from genrec_bench.algorithms.flame import FLAME, FLAMEHyperparameters
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.gradients import gradient
from genrec_bench.contract.tiny_world import groups, play, tiny_world

# The target is 0-0-0: a hit, two codes right, one, none, and an empty place.
TREE = tree_of([0, 1, 2, 3, -1])
TARGETS = TREE.trie.leaf(torch.tensor([0]))
SEEN = Seen.bare(TREE, TARGETS)


def test_the_potential_rises_with_right_codes_and_falls_after_a_mistake() -> None:
    found = FLAME(FLAMEHyperparameters()).potential(TREE, TARGETS)[0]
    wanted = [
        [1 / 3, 2 / 3, 1],
        # Two of three right: 2 of 4 in either.
        [1 / 3, 2 / 3, 2 / 4],
        [1 / 3, 1 / 4, 1 / 5],
        [0, 0, 0],
        [0, 0, 0],
    ]
    assert torch.allclose(found, torch.tensor(wanted))


def test_the_prefix_is_right_or_not() -> None:
    ours = FLAME(FLAMEHyperparameters(potential="prefix"))
    wanted = [[1 / 3, 2 / 3, 1], [1 / 3, 2 / 3, 2 / 3], [1 / 3, 1 / 3, 1 / 3], [0] * 3, [0] * 3]
    assert torch.allclose(ours.potential(TREE, TARGETS)[0], torch.tensor(wanted))
    assert ours.reward(SEEN)[0].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0, 0])


def test_each_code_is_credited_with_its_change() -> None:
    ours = FLAME(FLAMEHyperparameters(credit=0.6, epsilon=0.0))
    rewards = ours.reward(SEEN)
    assert rewards[0].tolist() == pytest.approx([1, 0.5, 0.2, 0, 0])
    # Their mean is 0.425 and their deviation, by n - 1, 0.4349329.
    z = [1.3220430, 0.1724404, -0.5173211, -0.9771621]
    own = [
        [1 / 3, 1 / 3, 1 / 3],
        [1 / 3, 1 / 3, -1 / 6],
        [1 / 3, -1 / 12, -1 / 20],
        [0.0, 0.0, 0.0],
    ]
    wanted = [[a + 0.6 * b for b in each] for a, each in zip(z, own, strict=True)]
    found = ours.advantage(SEEN, rewards)[0]
    assert torch.allclose(found, torch.tensor([*wanted, [0, 0, 0]]), atol=1e-6)


def test_without_credit_of_its_own_a_code_is_grpos() -> None:
    class Graded(GRPO):
        """GRPO on the same rewards."""

        def reward(self, seen: Seen) -> torch.Tensor:
            return FLAME(FLAMEHyperparameters()).reward(seen)

    grpo = Graded(GRPOHyperparameters(beta=0.01))
    plain, ours = (FLAME(FLAMEHyperparameters(credit=c, beta=0.01)) for c in (0.0, 0.5))
    world = tiny_world(grpo)
    for name, tree in groups(grpo, world).items():
        found = [
            gradient(world, play(each, world, *tree).losses.sum()) for each in (plain, grpo, ours)
        ]
        assert torch.allclose(found[0], found[1], atol=1e-6), name
        partly = bool(ours.reward(Seen.bare(*tree)).any())
        assert torch.allclose(found[2], found[1], atol=1e-6) is not partly, name
