"""The value of a prefix: the head, its dense rewards, and that both together learn."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trees import TRIE, node, tree_of
from torch import nn
from torch.nn.functional import gelu

from genrec_bench.contract.tiny_world import (
    HIDDEN_SIZE,
    World,
    tiny_catalog,
    tiny_policy,
    tiny_world,
)
from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.value import Prefixes, ValueHead
from genrec_bench.errors import UserError
from genrec_bench.policy.flops import ProductCount
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.scoring import Scores, score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.checkpoints import HEADS, load_heads, save_policy
from genrec_bench.training.losses import temporal_difference_loss
from genrec_bench.training.rewards import bucket_mean, level_weights, semantic_reward

EMBEDDINGS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 0.0]])
WEIGHTS = (0.3, 0.5, 1.0)


def target(*rows: int) -> torch.Tensor:
    return TRIE.leaf(torch.tensor(rows))


# Rewards


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


def test_what_stands_at_empty_places_is_in_no_bucket() -> None:
    tree = tree_of([0, -1, 2])
    values = torch.tensor([[[1.0], [torch.nan], [4.0]]])
    found = bucket_mean(tree, values)[0, :, 0]
    assert found[node(tree, 0)] == 2.5 and found[node(tree, 0, 0)] == 1.0
    assert found[node(tree, 0, 1, 0)] == 4.0


@pytest.mark.parametrize(
    ("text", "levels", "weights"),
    [
        ("0.3,0.5,1", 3, [0.3, 0.5, 1.0]),
        # A third and two thirds of the way down.
        ("0.3,0.5,1", 4, [0.3, 0.3 + 0.2 * 2 / 3, 0.5 + 0.5 / 3, 1.0]),
        ("0.3,0.5,1", 2, [0.3, 1.0]),
        ("0.3,0.5,1", 1, [1.0]),
        ("0.3, 0.5, 1", 5, [0.3, 0.4, 0.5, 0.75, 1.0]),
        ("2", 3, [2.0, 2.0, 2.0]),
    ],
)
def test_level_weights(text: str, levels: int, weights: list[float]) -> None:
    assert level_weights(text, levels) == pytest.approx(weights)


@pytest.mark.parametrize("text", ["", "a", "0.3;0.5", "0.3,,1", "0,1", "-1", "nan", "inf"])
def test_level_weights_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="^level_weights=.*positive numbers"):
        level_weights(text, 3)


# The head


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture(scope="module")
def scores(world: World) -> Scores:
    # More than the catalog has, and one prompt's tree cut short: padding of both kinds.
    tree = beam_search(world.policy, world.prompts, 8)
    tree.valid[0, 1:] = False
    short = CandidateTree.build(tree.trie, tree.leaves, torch.zeros(*tree.paths.shape))
    with torch.no_grad():
        return score(world.policy, world.prompts, short, leaves=True)


def head(seed: int = 0) -> ValueHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = ValueHead(HIDDEN_SIZE)
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.5)
    return made


def prefixes(scores: Scores, fill: float) -> Prefixes:
    """All nodes of scored trees, their paths walked one by one."""
    tree = scores.tree
    rows, nodes = tree.is_node.nonzero().T
    hidden = torch.full((len(rows), tree.trie.num_levels + 1, HIDDEN_SIZE), fill)
    for index, (row, place) in enumerate(zip(rows.tolist(), nodes.tolist(), strict=True)):
        chain = []
        while place >= 0:
            chain.append(scores.node_hidden[row, place])
            place = int(tree.parents[row, place])
        for level, state in enumerate([scores.root_hidden[row], *reversed(chain)]):
            hidden[index, level] = state
    return Prefixes(rows, tree.states[rows, nodes], tree.levels[rows, nodes], hidden)


def test_a_whole_tree_is_valued_like_its_prefixes(scores: Scores) -> None:
    chosen = head()
    found = chosen.of_tree(scores.tree, scores.root_hidden, scores.node_hidden)
    real = scores.tree.is_node
    assert 0 < int(real.sum()) < real.numel()
    # What stands behind a prefix means nothing, even if it is no number.
    alone = chosen(prefixes(scores, math.nan))
    assert torch.allclose(found[real], alone, atol=1e-5)
    assert alone.std() > 0.1
    assert found[~real].eq(0).all()


def test_one_query_gives_what_a_causal_transformer_block_gives(scores: Scores) -> None:
    """The same weights in torch's own block, run over all places."""
    chosen = head()
    block = nn.TransformerEncoderLayer(
        HIDDEN_SIZE,
        chosen.num_heads,
        2 * HIDDEN_SIZE,
        dropout=0.0,
        activation=gelu,
        batch_first=True,
        norm_first=True,
    )
    attention = block.self_attn
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([chosen.query.weight, chosen.key_value.weight]))
        attention.in_proj_bias.copy_(torch.cat([chosen.query.bias, chosen.key_value.bias]))
    for theirs, ours in (
        (attention.out_proj, chosen.output),
        (block.norm1, chosen.attention_norm),
        (block.norm2, chosen.mlp_norm),
        (block.linear1, chosen.up),
        (block.linear2, chosen.down),
    ):
        theirs.load_state_dict(ours.state_dict())
    asked = prefixes(scores, 0.0)
    causal = nn.Transformer.generate_square_subsequent_mask(asked.hidden.shape[1])
    places = block(asked.hidden, src_mask=causal, is_causal=True)
    last = places[torch.arange(len(places)), asked.levels]
    expected = chosen.value(gelu(chosen.regress(chosen.final_norm(last)))).squeeze(-1)
    assert torch.allclose(chosen(asked), expected, atol=1e-5)


def test_the_empty_prefix_has_a_value_too(scores: Scores) -> None:
    chosen = head()
    hidden = scores.root_hidden.unsqueeze(1).expand(-1, 4, -1)
    zero = torch.zeros(len(hidden), dtype=torch.long)
    values = chosen(Prefixes(torch.arange(len(hidden)), zero, zero, hidden))
    assert values.shape == (len(hidden),) and values.isfinite().all() and values.std() > 0


def test_a_value_sees_the_whole_prefix_and_nothing_else(scores: Scores) -> None:
    asked = prefixes(scores, 0.0)
    hidden = asked.hidden.clone().requires_grad_()
    values = head()(Prefixes(asked.rows, asked.states, asked.levels, hidden))
    (gradient,) = torch.autograd.grad(values.sum(), [hidden])
    reached = gradient.abs().sum(dim=-1) > 0
    places = torch.arange(hidden.shape[1])
    assert torch.equal(reached, places <= asked.levels.unsqueeze(1))


def test_a_new_head_prefers_nothing(scores: Scores) -> None:
    assert ValueHead(HIDDEN_SIZE)(prefixes(scores, 0.0)).eq(0).all()


def test_a_tree_without_its_leaves_is_refused(scores: Scores) -> None:
    with pytest.raises(ValueError, match="without its leaves"):
        head().of_tree(scores.tree, scores.root_hidden, scores.node_hidden[:, :1])


def test_hidden_states_of_half_precision_are_taken(scores: Scores) -> None:
    chosen, asked = head(), prefixes(scores, 0.0)
    half = Prefixes(asked.rows, asked.states, asked.levels, asked.hidden.bfloat16())
    found = chosen(half)
    assert found.dtype == torch.float32
    assert torch.corrcoef(torch.stack([found, chosen(asked)]))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("hidden_size", "num_heads"), [(16, 1), (128, 2), (896, 14), (1536, 24), (100, 1), (130, 2)]
)
def test_heads_of_attention_share_the_hidden_states_evenly(
    hidden_size: int, num_heads: int
) -> None:
    assert ValueHead(hidden_size).num_heads == num_heads


def test_every_product_of_the_head_is_counted() -> None:
    count, size, places = 7, HIDDEN_SIZE, 4
    levels = torch.full((count,), places - 1)
    asked = Prefixes(levels, levels, levels, torch.zeros(count, places, size))
    with ProductCount() as products:
        head()(asked)
    # Multiplications: query, output and regressor; the MLP, there and back, twice as wide; keys and
    # values of every place; attention's logits and its sum; the value itself.
    square = size * size
    each = 3 * square + 4 * square + places * 2 * square + 2 * places * size + size
    assert products.total(backward=False) == 2 * count * each


def test_the_head_learns_the_discounted_return(scores: Scores) -> None:
    tree = tree_of([0, 1, 2, 3])
    rewards = semantic_reward(tree, target(3), EMBEDDINGS, WEIGHTS)
    discount = 0.9
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
    root = torch.randn(1, HIDDEN_SIZE, generator=generator)
    nodes = torch.randn(*tree.states.shape, HIDDEN_SIZE, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        chosen = ValueHead(HIDDEN_SIZE)
    optimizer = torch.optim.Adam(chosen.parameters(), lr=0.01)
    for _ in range(300):
        values = chosen.of_tree(tree, root, nodes)
        loss = temporal_difference_loss(
            tree.on_paths(values), tree.on_paths(rewards), tree.valid, discount
        )
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    found = chosen.of_tree(tree, root, nodes)[0].detach()
    for prefix, value in expected.items():
        assert float(found[node(tree, *prefix)]) == pytest.approx(value, abs=0.02), prefix


# On disk


def policy_with_head(seed: int, size: int = HIDDEN_SIZE) -> Policy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = {"value": ValueHead(size)}
    return tiny_policy(tiny_catalog(), heads=heads)


def test_heads_come_back(tmp_path: Path) -> None:
    saved, loaded = policy_with_head(1), policy_with_head(2)
    save_policy(saved, tmp_path / "policy")
    load_heads(loaded, tmp_path / "policy")
    for name, weight in saved.heads.state_dict().items():
        assert torch.equal(weight, loaded.heads.state_dict()[name]), name
    assert not torch.equal(
        policy_with_head(2).heads.state_dict()["value.query.weight"],
        loaded.heads.state_dict()["value.query.weight"],
    )


def test_a_policy_without_heads_needs_no_file(tmp_path: Path) -> None:
    load_heads(tiny_policy(tiny_catalog()), tmp_path)


def test_heads_that_cannot_be_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    with pytest.raises(UserError, match="no trained value"):
        load_heads(policy_with_head(0), folder)
    save_policy(policy_with_head(0), folder)
    with pytest.raises(UserError, match="cannot be loaded.*size mismatch") as error:
        load_heads(policy_with_head(0, 2 * HIDDEN_SIZE), folder)
    assert "\n" not in str(error.value)
    other = tiny_policy(tiny_catalog(), heads={"value": nn.Linear(HIDDEN_SIZE, 1)})
    with pytest.raises(UserError, match="cannot be loaded.*Missing key"):
        load_heads(other, folder)
    (folder / HEADS).write_bytes((folder / HEADS).read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_heads(policy_with_head(0), folder)
