"""A miniature of ``genrec-bench bench``: that it compares like with like, not how fast."""

import json
from typing import Any

import pytest
import torch

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_policy
from genrec_bench.data.dataset import Examples
from genrec_bench.policy.backbones import TINY
from genrec_bench.policy.prompts import Prompts
from genrec_bench.studies.speed.bench import Workload, bench, bench_text
from genrec_bench.studies.speed.contenders import Ours, Rival, random_policy

SMALL = {**TINY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
LARGE = {**SMALL, "num_hidden_layers": 3}
MINIATURE = Workload(
    num_prompts=6,
    history_length=3,
    group_size=5,
    num_sids=60,
    codes_per_level=(8, 8, 8),
    small=SMALL,
    large=LARGE,
    rounds=2,
    peak_seconds=0.01,
)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return bench(MINIATURE, "cpu")


def test_both_sides_find_the_same(result: dict[str, Any]) -> None:
    assert result["agreement"]["candidates"] >= 0.99
    assert result["agreement"]["gradient_cosine"] >= 0.99999


@pytest.mark.parametrize("kind", ["rollout", "update"])
def test_figures_fit_together(result: dict[str, Any], kind: str) -> None:
    figures = result[kind]
    small, large, rival = figures["small"], figures["large"], figures["rival"]
    for measured in (small, large, rival):
        assert 0 < measured["fastest"] <= measured["seconds"] <= measured["slowest"]
    assert figures["speedup"] * small["seconds"] == pytest.approx(rival["seconds"])
    assert figures["prompts_per_s"] * small["seconds"] == pytest.approx(MINIATURE.num_prompts)
    achieved = figures["peak_share"] * result["peak"]
    assert achieved * large["seconds"] == pytest.approx(large["flops"])


def test_search_and_beam_are_compared_at_equal_budgets(result: dict[str, Any]) -> None:
    choices = [(row["token_budget"], row["traversals_per_round"]) for row in result["ved"]]
    assert (1, 1) in choices and any(scale > 1 for scale, _ in choices)
    for row in result["ved"]:
        assert row["ratio"] * row["beam"]["seconds"] == pytest.approx(row["ved"]["seconds"])
        # A beam of that width over the two levels above the leaves, and the root's prediction.
        most = 1 + row["token_budget"] * 2 * MINIATURE.group_size
        assert 1 < row["tokens"] <= most
    assert f"{result['ved'][0]['ratio']:.2f}x" in bench_text(result)


def test_work_is_counted_on_real_tokens_once() -> None:
    catalog = tiny_catalog()
    examples = Examples.from_lists(range(2), [[0, 1], [2]], [0, 0])
    ours = Ours(random_policy(SMALL, catalog, torch.device("cpu")), examples, 3)
    lengths = [1 + 2 * 3, 1 + 1 * 3]
    tree = ours.tree
    inner = (tree.is_node & (tree.levels < 3)).sum(dim=1).tolist()
    packed = {
        "tokens": sum(lengths) + sum(inner),
        "pairs": sum((length + nodes) ** 2 for length, nodes in zip(lengths, inner, strict=True)),
        "head_rows": 2 + sum(inner),
    }
    model = ours.policy.flops
    expected = model.forward(**packed) + model.backward(**packed)
    assert ours.flops(ours.update) == pytest.approx(expected)

    # A beam reads three nodes of level 1, then three of level 2, of which the tree keeps some.
    pairs = sum(n**2 + 3 * (n + 3) + 3 * (n + 6) for n in lengths)
    expected = model.forward(tokens=sum(lengths) + 12, pairs=pairs, head_rows=2 + 12)
    assert ours.flops(ours.rollout) == pytest.approx(expected)


def test_result_can_be_printed(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result))["workload"]["num_prompts"] == MINIATURE.num_prompts
    text = bench_text(result)
    assert "rollout" in text and f"{result['update']['speedup']:.1f}x" in text


def test_rival_refuses_what_it_cannot_do_alike() -> None:
    catalog = tiny_catalog()
    whole, padded = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    padded[0, 0] = False
    tokens = torch.ones(2, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="equal length"):
        Rival(tiny_policy(catalog), Prompts(tokens, padded), group_size=3)
    with pytest.raises(ValueError, match="whole vocabulary"):
        Rival(tiny_policy(catalog, logprob_space="trie"), Prompts(tokens, whole), group_size=3)


def test_rival_stays_inside_the_catalog() -> None:
    catalog = tiny_catalog()
    policy = tiny_policy(catalog)
    tokens = policy.code_tokens.flatten()[:6].expand(3, -1).clone()
    prompts = Prompts(tokens, torch.ones_like(tokens, dtype=torch.bool))
    found = Rival(policy, prompts, group_size=4).rollout(prompts_per_call=2)
    assert found.shape == (3, 4, policy.trie.num_levels)
    leaves = policy.trie.leaf(torch.arange(policy.trie.num_leaves))
    known = set(map(tuple, policy.tokens_of(policy.trie.prefixes(leaves)).tolist()))
    for group in found.tolist():
        assert len(set(map(tuple, group))) == 4
        assert set(map(tuple, group)) <= known
