"""V-STAR's formulas in numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trees import SIDS, TRIE, node, tree_of

from genrec_bench.algorithms.vstar import sibling_advantage, sibling_loss
from genrec_bench.decoding.value import ValueHead
from genrec_bench.training.value_rewards import semantic_reward, td_loss

EMBEDDINGS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 0.0]])
WEIGHTS = [0.3, 0.5, 1.0]


def target(*rows: int) -> torch.Tensor:
    return TRIE.leaf(torch.tensor(rows))


# Rewards of prefixes, Eq. 6 to 8


def test_a_prefix_is_rewarded_by_the_mean_of_its_bucket() -> None:
    tree = tree_of([0, 1, 2, 3])
    found = semantic_reward(tree, target(3), EMBEDDINGS, WEIGHTS)[0]
    # The target's embedding is (0.6, 0.8). Bucket (0): the mean of (1, 0), (-1, 0), (0, 1) is
    # (0, 1/3), whose cosine with it is 0.8. Bucket (0, 0): the mean is 0, which is near to nothing.
    expected = {
        (0,): -0.3 * 0.2,
        (0, 0): -0.5 * 1.0,
        (0, 1): -0.5 * 0.2,
        (0, 0, 0): -1.0 * 0.4,
        (0, 0, 1): -1.0 * 1.6,
        (0, 1, 0): -1.0 * 0.2,
        (1,): 0.3,
        (1, 0): 0.5,
        (1, 0, 0): 1.0,
    }
    assert len(expected) == tree.states.shape[1]
    for prefix, value in expected.items():
        assert float(found[node(tree, *prefix)]) == pytest.approx(value, abs=1e-6), prefix


def test_a_candidate_that_was_drawn_twice_counts_twice() -> None:
    tree = tree_of([0, 0, 1, 2, 3])
    found = semantic_reward(tree, target(3), EMBEDDINGS, WEIGHTS)[0]
    # Bucket (0) has the mean (1, 1) / 4, whose cosine with (0.6, 0.8) is 1.4 / sqrt 2.
    nearness = 1.4 / math.sqrt(2)
    assert float(found[node(tree, 0)]) == pytest.approx(-0.3 * (1 - nearness), abs=1e-6)


def test_prefixes_of_a_target_that_was_missed_are_still_its_prefixes() -> None:
    tree = tree_of([1, 2, -1])
    found = semantic_reward(tree, target(0), EMBEDDINGS, WEIGHTS)[0]
    assert float(found[node(tree, 0)]) == pytest.approx(0.3)
    assert float(found[node(tree, 0, 0)]) == pytest.approx(0.5)
    # (-1, 0) is the target's opposite.
    assert float(found[node(tree, 0, 0, 1)]) == pytest.approx(-2.0)


def test_rewards_of_embeddings_without_direction_and_of_padding() -> None:
    tree = tree_of([4, -1, -1, -1], [0, 1, 2, 3], [-1, -1, -1, -1])
    found = semantic_reward(tree, target(0, 4, 0), EMBEDDINGS, WEIGHTS)
    # The cosine with a zero vector is 0, on either side.
    assert found[0, :3].tolist() == pytest.approx([-0.3, -0.5, -1.0])
    assert found[1, node(tree, 0, 0, row=1)] == pytest.approx(-0.5)
    assert found[0, 3:].eq(0).all() and found[2].eq(0).all()


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=6), st.integers(0, 4))
def test_rewards_lie_between_what_is_right_and_what_is_opposite(rows: list[int], row: int) -> None:
    tree = tree_of(rows)
    found = semantic_reward(tree, target(row), EMBEDDINGS, WEIGHTS)
    weight = torch.tensor([0.0, *WEIGHTS])[tree.levels]
    assert ((-2 * weight - 1e-6 <= found) & (found <= weight + 1e-6)).all()
    # Only prefixes of the target earn the whole weight: no mean of six others points its way.
    full = (found == weight) & tree.is_node
    on_path = set(TRIE.prefixes(target(row))[0].tolist())
    assert set(tree.states[full].tolist()) == on_path & set(tree.states[tree.is_node].tolist())


# Sibling advantages, Eq. 15 to 18

REWARDS = torch.tensor([[1.0, 0.0, 0.0, -1.0, 0.0]])


def test_nodes_are_compared_with_their_siblings_by_the_mean_of_their_candidates() -> None:
    tree = tree_of([0, 1, 2, 3, 4])
    found = sibling_advantage(tree, REWARDS, epsilon=0.0)[0]
    # Under the prompt: (0) has 1, 0, 0, a mean of 1/3; (1) has -1; (2) has 0. Their mean is -2/9,
    # the deviations 5/9, -7/9, 2/9, and sqrt((25 + 49 + 4) / 81 / 3) = 0.566558.
    assert float(found[node(tree, 0)]) == pytest.approx(5 / 9 / 0.566558, abs=1e-5)
    assert float(found[node(tree, 1)]) == pytest.approx(-7 / 9 / 0.566558, abs=1e-5)
    assert float(found[node(tree, 2)]) == pytest.approx(2 / 9 / 0.566558, abs=1e-5)
    # Under (0): 1/2 and 0; under (0, 0): 1 and 0. Two siblings are one deviation away from both.
    for better, worse in (((0, 0), (0, 1)), ((0, 0, 0), (0, 0, 1))):
        assert float(found[node(tree, *better)]) == pytest.approx(1.0)
        assert float(found[node(tree, *worse)]) == pytest.approx(-1.0)
    # A node without siblings has no advantage.
    found = sibling_advantage(tree, REWARDS)[0]
    for alone in ((0, 1, 0), (1, 0), (1, 0, 0), (2, 0), (2, 0, 0)):
        assert found[node(tree, *alone)] == 0
    assert sibling_advantage(tree_of([0]), torch.ones(1, 1)).eq(0).all()


def test_epsilon_stands_beside_the_siblings_deviation() -> None:
    tree = tree_of([0, 1])
    found = sibling_advantage(tree, torch.tensor([[1.0, 0.0]]), epsilon=0.5)[0]
    # 1 and 0: half a deviation of 1/2 beside an epsilon of 1/2. Above them nobody has a sibling.
    assert float(found[node(tree, 0, 0, 0)]) == pytest.approx(0.5)
    assert found[node(tree, 0)] == found[node(tree, 0, 0)] == 0


def test_a_candidate_drawn_twice_weighs_twice_in_its_node_and_is_one_sibling() -> None:
    tree = tree_of([0, 0, 1, 3])
    found = sibling_advantage(tree, torch.tensor([[1.0, 1.0, 0.0, 0.0]]), epsilon=1 / 3)[0]
    # (0) has the mean 2/3 and (1) has 0: both are 1/3 away from their mean, deviation 1/3.
    assert float(found[node(tree, 0)]) == pytest.approx(0.5)
    # (0, 0, 0) with 1 and (0, 0, 1) with 0 are two siblings, not three.
    assert float(found[node(tree, 0, 0, 0)]) == pytest.approx(0.5 / (0.5 + 1 / 3))


def test_equal_rewards_give_no_node_an_advantage() -> None:
    for reward in (0.0, 1.0, -0.3):
        found = sibling_advantage(tree_of([0, 1, 2, 3, -1]), torch.full((1, 5), reward))
        assert found.abs().max() < 1e-3


def test_siblings_are_of_one_prompt() -> None:
    """The same prefix under two prompts is two nodes, each with siblings of its own."""
    both = tree_of([0, 3, -1], [0, 3, 4])
    rewards = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])
    found = sibling_advantage(both, rewards)
    for row, group in enumerate(([0, 3, -1], [0, 3, 4])):
        alone = sibling_advantage(tree_of(group), rewards[row : row + 1])
        width = alone.shape[1]
        assert torch.equal(found[row, :width], alone[0])
        assert found[row, width:].eq(0).all()
    assert found[0, node(both, 0)] > 0 > found[1, node(both, 0, row=1)]


@given(
    st.lists(st.integers(-1, len(SIDS) - 1), min_size=1, max_size=7),
    st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.5, 1.0]), min_size=7, max_size=7),
)
def test_advantages_of_siblings_cancel(rows: list[int], rewards: list[float]) -> None:
    tree = tree_of(rows)
    found = sibling_advantage(tree, torch.tensor([rewards[: len(rows)]]))[0]
    sums: dict[int, float] = {}
    for place, parent in enumerate(tree.parents[0].tolist()):
        sums[parent] = sums.get(parent, 0.0) + float(found[place])
    assert all(abs(total) < 1e-4 for total in sums.values())
    # With n siblings no one of them is more than sqrt(n - 1) deviations away.
    assert found.abs().max() <= 2**0.5 + 1e-4
    assert found[~tree.is_node[0]].eq(0).all()


# The losses, Eq. 9 and 19


def test_td_loss() -> None:
    values = torch.tensor([[[0.5, 0.2, -0.1], [7.0, 7.0, 7.0]]], requires_grad=True)
    rewards = torch.tensor([[[0.3, 0.5, 1.0], [9.0, 9.0, 9.0]]])
    valid = torch.tensor([[True, False]])
    found = td_loss(values, rewards, valid, 0.9)
    found.sum().backward()
    # Targets 0.3 + 0.9 * 0.2 = 0.48, 0.5 - 0.9 * 0.1 = 0.41, and 1; errors 0.02, -0.21, -1.1.
    assert found.tolist() == pytest.approx([(0.0004 + 0.0441 + 1.21) / 3])
    # 2 / 3 of the error each: the value that a target is made of is left alone by it.
    assert values.grad is not None
    assert values.grad[0].tolist() == [
        pytest.approx([0.04 / 3, -0.42 / 3, -2.2 / 3]),
        pytest.approx([0.0, 0.0, 0.0]),
    ]


def test_values_that_obey_bellman_have_no_temporal_difference() -> None:
    rewards = torch.tensor([[[0.3, -0.5, 1.0]]])
    # -0.5 + 0.9 * 1 = 0.4 and 0.3 + 0.9 * 0.4 = 0.66.
    found = td_loss(torch.tensor([[[0.66, 0.4, 1.0]]]), rewards, torch.ones(1, 1).bool(), 0.9)
    assert found.item() == pytest.approx(0.0, abs=1e-12)
    # One level regresses the reward: errors 0.5 and 0.5.
    values, rewards = torch.tensor([[[0.5], [-1.0]]]), torch.tensor([[[1.0], [-1.5]]])
    assert td_loss(values, rewards, torch.ones(1, 2).bool(), 0.99).tolist() == [0.25]


def test_sibling_loss_weighs_each_node_by_its_credit() -> None:
    log_probs = torch.tensor([[1.5, 1.0, 9.0]]).log().requires_grad_()
    advantages = torch.tensor([[1.0, -2.0, 0.0]])
    valid = torch.tensor([[True, True, True, True, False]])
    found = sibling_loss(log_probs, torch.zeros(1, 3), advantages, valid)
    found.sum().backward()
    # -(1 * 1.5 - 2 * 1) / 4: four candidates, three nodes; a node without credit moves nothing.
    assert found.tolist() == pytest.approx([0.125])
    assert log_probs.grad is not None
    assert log_probs.grad[0].tolist() == pytest.approx([-0.375, 0.5, 0.0])
    # A prompt without candidates has none.
    zeros = torch.zeros(1, 2)
    assert sibling_loss(zeros, zeros, zeros, torch.zeros(1, 3).bool()).tolist() == [0.0]


def test_the_head_learns_the_discounted_return() -> None:
    tree = tree_of([0, 1, 2, 3])
    rewards = semantic_reward(tree, target(3), EMBEDDINGS, WEIGHTS)
    discount, size = 0.9, 16
    # Worked out from the rewards above: a leaf is worth its reward, and a prefix its reward and
    # 0.9 times the mean over the candidates through it of what comes next.
    expected = {
        (0, 0): -0.5 + 0.9 * (-0.4 - 1.6) / 2,
        (0, 1): -0.1 + 0.9 * -0.2,
        (0,): -0.06 + 0.9 * (-1.4 - 1.4 - 0.28) / 3,
        (0, 0, 1): -1.6,
        (1, 0): 0.5 + 0.9 * 1.0,
        (1,): 0.3 + 0.9 * 1.4,
    }
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(1, size, generator=generator)
    nodes = torch.randn(*tree.states.shape, size, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        chosen = ValueHead(size)
    optimizer = torch.optim.Adam(chosen.parameters(), lr=0.01)
    for _ in range(300):
        values = chosen.of_tree(tree, root, nodes)
        loss = td_loss(tree.on_paths(values), tree.on_paths(rewards), tree.valid, discount)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    found = chosen.of_tree(tree, root, nodes)[0].detach()
    for prefix, value in expected.items():
        assert float(found[node(tree, *prefix)]) == pytest.approx(value, abs=0.02), prefix
