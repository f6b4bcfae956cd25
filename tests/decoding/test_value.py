"""The head that values prefixes: what it sees, what it costs, and how it is kept."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from genrec_bench.contract.tiny_world import (
    HIDDEN_SIZE,
    TinyWorld,
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


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return tiny_world()


@pytest.fixture(scope="module")
def scores(world: TinyWorld) -> Scores:
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
    codes = scores.node_log_probs[rows, nodes]
    totals = torch.zeros(len(rows))
    for index, (row, place) in enumerate(zip(rows.tolist(), nodes.tolist(), strict=True)):
        while place >= 0:
            totals[index] += scores.node_log_probs[row, place]
            place = int(tree.parents[row, place])
    states, levels = tree.states[rows, nodes], tree.levels[rows, nodes]
    return Prefixes(rows, states, levels, codes, totals, hidden)


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
    values = chosen(Prefixes(torch.arange(len(hidden)), zero, zero, zero, zero, hidden))
    assert values.shape == (len(hidden),) and values.isfinite().all() and values.std() > 0


def test_a_value_sees_the_whole_prefix_and_nothing_else(scores: Scores) -> None:
    asked = prefixes(scores, 0.0)
    hidden = asked.hidden.clone().requires_grad_()
    values = head()(replace(asked, hidden=hidden))
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
    half = replace(asked, hidden=asked.hidden.bfloat16())
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
    asked = Prefixes(levels, levels, levels, levels, levels, torch.zeros(count, places, size))
    with ProductCount() as products:
        head()(asked)
    # Multiplications: query, output and regressor; the MLP, there and back, twice as wide; keys and
    # values of every place; attention's logits and its sum; the value itself.
    square = size * size
    each = 3 * square + 4 * square + places * 2 * square + 2 * places * size + size
    assert products.total(backward=False) == 2 * count * each


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
