"""What a value knows beside hidden states: by hand, and equal in a search and in training."""

import math

import numpy as np
import pytest
import torch
from search_world import NUM_PROMPTS, full_catalog, turned
from small_trees import SIDS, TRIE, node, tree_of
from torch import Tensor, nn

from genrec_bench.contract.tiny_world import (
    EMBEDDING_SIZE,
    HIDDEN_SIZE,
    tiny_catalog,
    tiny_examples,
    tiny_policy,
)
from genrec_bench.decoding.value import tree_values, value_heads, value_of
from genrec_bench.decoding.value_features import (
    INPUTS,
    Facts,
    FeatureValue,
    history_leaves,
    history_means,
    value_inputs,
)
from genrec_bench.decoding.ved import ved
from genrec_bench.decoding.ved_options import VEDOptions
from genrec_bench.errors import UserError
from genrec_bench.policy.flops import ProductCount
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import score

CATALOG = full_catalog(4, 3, 3)
EMBEDDINGS = torch.randn(36, EMBEDDING_SIZE, generator=torch.Generator().manual_seed(0))


def policy_with(inputs: tuple[str, ...]) -> tuple[Policy, Prompts]:
    """A policy with heads that say something, and prompts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = value_heads(HIDDEN_SIZE, EMBEDDING_SIZE, inputs)
        for head in heads.values():
            for parameter in head.parameters():
                nn.init.normal_(parameter, std=0.5)
    policy = tiny_policy(CATALOG, heads=heads, embeddings=EMBEDDINGS)
    examples = tiny_examples(CATALOG, NUM_PROMPTS)
    return policy, policy.prompt_format.encode(examples, np.arange(NUM_PROMPTS))


# The catalog


def test_codes_lead_from_states_to_their_children() -> None:
    paths = {tuple(sid[:length]) for sid in SIDS for length in (1, 2, 3)}
    states: dict[tuple[int, ...], int] = {(): 0}
    for sid, on_path in zip(SIDS, TRIE.prefixes(TRIE.leaf(torch.arange(5))), strict=True):
        states |= {tuple(sid[: level + 1]): int(state) for level, state in enumerate(on_path)}
    for prefix, state in states.items():
        for code in range(3):
            found = int(TRIE.child(torch.tensor(state), torch.tensor(code)))
            expected = states[(*prefix, code)] if (*prefix, code) in paths else TRIE.dead
            assert found == expected, (prefix, code)
    assert int(TRIE.child(torch.tensor(TRIE.dead), torch.tensor(0))) == TRIE.dead


def test_the_mean_embedding_under_a_prefix_by_hand() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 0.0]])
    means = TRIE.prefix_means(rows)
    tree = tree_of([0, 1, 2, 3, 4])
    expected = {
        # Of the three SIDs that begin with 0, and not of the two prefixes below it.
        (0,): [0.0, 1 / 3],
        (0, 0): [0.0, 0.0],
        (0, 0, 1): [-1.0, 0.0],
        (0, 1): [0.0, 1.0],
        (1,): [0.6, 0.8],
        (2, 0): [0.0, 0.0],
    }
    for prefix, mean in expected.items():
        state = tree.states[0, node(tree, *prefix)]
        assert means[state].tolist() == pytest.approx(mean), prefix
    assert means[0].tolist() == pytest.approx([0.12, 0.36])
    assert means[TRIE.dead].tolist() == [0.0, 0.0] and means.shape == (TRIE.num_states + 1, 2)


def test_sums_along_paths_by_hand() -> None:
    tree = tree_of([0, 2, 3], [4, -1, -1])
    values = torch.arange(1.0, 1 + tree.states.numel()).view(tree.states.shape)
    found = tree.path_sums(values * tree.is_node)
    for row in range(2):
        for place in tree.is_node[row].nonzero()[:, 0].tolist():
            total, above = 0.0, place
            while above >= 0:
                total += float(values[row, above])
                above = int(tree.parents[row, above])
            assert float(found[row, place]) == total
    assert found[~tree.is_node].eq(0).all()


# The history


def test_items_are_read_off_a_prompt_of_any_padding() -> None:
    policy, prompts = policy_with(("hidden",))
    examples = tiny_examples(CATALOG, NUM_PROMPTS)
    other, order = turned(prompts)
    assert not torch.equal(other.mask[0], prompts.mask[0])
    for asked, rows in ((prompts, torch.arange(NUM_PROMPTS)), (other, order)):
        means = history_means(policy, asked)
        for place, row in enumerate(rows.tolist()):
            leaves = history_leaves(policy, asked)[place]
            items = torch.from_numpy(examples.history(row).astype(np.int64))
            wanted = policy.item_leaves[items]
            assert torch.equal(leaves[leaves != policy.trie.dead], wanted)
            each = EMBEDDINGS[policy.trie.sid_index(wanted)]
            assert torch.allclose(means[place], each.sum(0) / len(items), atol=1e-6)


def test_codes_that_are_no_item_and_prompts_without_items_have_no_history() -> None:
    policy = tiny_policy(tiny_catalog(), embeddings=torch.ones(20, 2))
    known = {tuple(sid) for sid in tiny_catalog().sids.tolist()}
    codes = next((a, b, c) for a in range(4) for b in range(4) for c in range(4)
                 if (a, b, c) not in known)  # fmt: skip
    tokens = [int(policy.code_tokens[level, code]) for level, code in enumerate(codes)]
    prompts = Prompts(torch.tensor([[1, *tokens], [1, 0, 0, 0]]), torch.ones(2, 4).bool())
    assert history_leaves(policy, prompts).eq(policy.trie.dead).all()
    assert history_means(policy, prompts).eq(0).all()


# The head


def test_the_head_in_plain_loops() -> None:
    policy, prompts = policy_with(INPUTS)
    head = policy.heads["value_features"]
    assert isinstance(head, FeatureValue)
    trie = policy.trie
    states = torch.tensor([0, 1, 6, trie.first_of_level[-1] + 7])
    facts = Facts(torch.tensor([4, 0, 2, 2]), states, torch.rand(4) - 2, torch.rand(4) - 5)
    history = history_means(policy, prompts)
    found = head(policy, history, facts)
    for index, state in enumerate(states.tolist()):
        prefix = policy.prefix_embeddings[state].tolist()
        own = history[facts.rows[index]].tolist()
        lengths = [math.sqrt(sum(x * x for x in vector)) for vector in (prefix, own)]
        unit = [[x / n for x in v] for v, n in zip((prefix, own), lengths, strict=True)]
        inputs = [int(trie.level[state]) / 3, float(facts.code[index]) / 5]
        inputs += [float(facts.total[index]) / 5, sum(x * y for x, y in zip(*unit, strict=True))]
        inputs += [0.3 * x * math.sqrt(EMBEDDING_SIZE) for vector in unit for x in vector]
        value = head.value.bias.item()
        for row, bias, out in zip(
            head.up.weight.tolist(), head.up.bias.tolist(), head.value.weight[0].tolist(),
            strict=True,
        ):  # fmt: skip
            z = bias + sum(w * x for w, x in zip(row, inputs, strict=True))
            value += out * z * 0.5 * (1 + math.erf(z / math.sqrt(2)))
        assert found[index].item() == pytest.approx(5 * value, abs=1e-4)


@pytest.mark.parametrize("inputs", [INPUTS, *[(name,) for name in INPUTS]])
def test_a_search_and_training_give_a_prefix_the_same_value(inputs: tuple[str, ...]) -> None:
    policy, prompts = policy_with(inputs)
    value = value_of(policy, prompts)
    # By value, so that what fills up, which has its parent's value, comes last.
    options = VEDOptions(initial_beam=2, token_budget=3, ranked_by="value")
    search = ved(policy, prompts, 8, value, options, key=0)
    with torch.no_grad():
        scores = score(policy, prompts, search.tree, leaves=True)
        values = tree_values(scores, detach=True)
    tree = search.tree
    read = torch.arange(8) < (tree.valid.sum(dim=1) - search.filled).unsqueeze(1)
    # Candidates come best first, and the tree keeps their order.
    leaves = tree.on_paths(values)[..., -1]
    assert read.sum() > 2 * NUM_PROMPTS
    assert torch.allclose(leaves[read], search.values[read], atol=1e-4)
    assert leaves[read].std() > 1e-2
    assert values[~tree.is_node].eq(0).all()


def test_no_gradient_reaches_the_backbone_unless_asked() -> None:
    policy, prompts = policy_with(INPUTS)
    tree = ved(policy, prompts, 4, value_of(policy, prompts), key=0).tree
    for detach in (True, False):
        policy.zero_grad()
        tree_values(score(policy, prompts, tree, leaves=True), detach=detach).sum().backward()
        reached = any(p.grad is not None for p in policy.backbone.parameters())
        assert reached != detach
        assert all(p.grad is not None for p in policy.heads.parameters())


def test_what_is_chosen_is_what_there_is() -> None:
    assert set(value_heads(8, 5, ("hidden",))) == {"value"}
    assert set(value_heads(8, 5, ("cosine",))) == {"value_features"}
    assert set(value_heads(8, 5, INPUTS)) == {"value", "value_features"}
    # Without embeddings there is nothing to be near to.
    assert value_heads(8, 0, ("cosine", "embeddings")) == {}
    sizes = {("probability",): 3, ("cosine",): 2, ("embeddings",): 11, INPUTS: 14}
    for inputs, size in sizes.items():
        head = value_heads(8, 5, inputs)["value_features"]
        assert isinstance(head, FeatureValue) and head.up.in_features == size


def test_a_new_head_prefers_nothing() -> None:
    with torch.random.fork_rng(devices=[]):
        heads = value_heads(HIDDEN_SIZE, EMBEDDING_SIZE, INPUTS)
    policy = tiny_policy(CATALOG, heads=heads, embeddings=EMBEDDINGS)
    prompts = policy.prompt_format.encode(tiny_examples(CATALOG), np.arange(5))
    found = ved(policy, prompts, 6, value_of(policy, prompts), key=0)
    assert found.values[found.tree.valid].eq(0).all()


def test_every_product_of_the_features_is_counted() -> None:
    policy, prompts = policy_with(("probability", "cosine"))
    zeros: Tensor = torch.zeros(7, dtype=torch.long)
    with ProductCount() as products:
        policy.heads["value_features"](
            policy, history_means(policy, prompts), Facts(zeros, zeros, zeros, zeros)
        )
    # Four inputs into 64, and these into one; sums and cosines are no matrix products.
    assert products.total(backward=False) == 2 * 7 * (4 * 64 + 64)


@pytest.mark.parametrize("text", ["", "hidden,hidden", "hiden", "hidden;cosine", "hidden,"])
def test_inputs_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="choose some of hidden, probability, embeddings, cosine"):
        value_inputs("value_features", text)


def test_inputs_are_read_in_any_order() -> None:
    assert value_inputs("value_features", "cosine, hidden") == ("cosine", "hidden")
