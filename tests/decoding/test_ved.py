"""VED: the budget to the token, its choices, and its purpose: to find what beams miss."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_world import (
    NUM_PROMPTS,
    constant,
    full_catalog,
    oracle,
    random_table,
    turned,
    world,
)
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.decoding.beam import TreeDecoder, beam_search
from genrec_bench.decoding.value import Prefixes, Value
from genrec_bench.decoding.ved import ved
from genrec_bench.decoding.ved_options import VEDOptions
from genrec_bench.policy.policy import Policy, WorkCount
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import score


def test_budget_and_first_beam() -> None:
    # §5.5: a beam of 16 at L = 3 spends 1 + 2 * 16; two, three and four times as much beyond the 1.
    sizes = [VEDOptions(token_budget=scale).budget(3, 16) for scale in (1, 2, 3, 4)]
    assert sizes == [33, 65, 97, 129]
    assert VEDOptions(token_budget=1.3).budget(3, 5) == 1 + 13
    assert VEDOptions(token_budget=9).budget(1, 16) == 1
    # The first beam leaves half of the group to the search.
    assert [VEDOptions().first_beam(count) for count in (1, 2, 10, 16, 64)] == [1, 1, 5, 8, 8]
    assert VEDOptions(initial_beam=3).first_beam(16) == 3


@pytest.mark.parametrize(
    "choice",
    [
        {"priority": "U"},
        {"leaf_value": "no"},
        {"counted": "all"},
        {"picked_by": "luck"},
        {"ranked_by": "luck"},
        {"initial_beam": 0},
        {"token_budget": 0.9},
        {"traversals_per_round": 0},
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused(choice: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(choice))):
        dataclasses.replace(VEDOptions(), **choice)  # type: ignore[arg-type]


@pytest.mark.parametrize("leaf_value", ["own", "parent"])
@pytest.mark.parametrize("scale", [1, 4])
def test_every_token_that_is_spent_is_metered(scale: float, leaf_value: str) -> None:
    policy, prompts = world(full_catalog(120, 3, 3))
    policy.meter = meter = WorkCount()
    options = VEDOptions(token_budget=scale, leaf_value=leaf_value)  # type: ignore[arg-type]
    search = ved(policy, prompts, 16, constant, options, key=0)
    # The root's prediction is the prompt's last token.
    assert meter.tokens == int(prompts.lengths.sum() + search.tokens.sum()) - NUM_PROMPTS
    # With so many first codes every traversal adds something.
    assert search.tokens.tolist() == [options.budget(3, 16)] * NUM_PROMPTS
    # A beam of 8 over 3 levels, or over the 2 above the leaves, is the start; each addition after
    # that costs 1, but for leaves that have their parent's value.
    start = 1 + 8 * (3 if leaf_value == "own" else 2)
    paid = search.tokens - start
    if leaf_value == "own":
        assert torch.equal(search.expansions, paid)
    assert (search.expansions >= paid).all()
    # UCB and the gate were at work.
    assert (search.traversals > 0).all() and (search.expansions > 0).all()
    assert search.gated_out.sum() > 0 and search.rounds > 0


@pytest.mark.parametrize("scale", [1, 2])
def test_in_the_beams_count_leaves_are_read_and_billed_but_not_counted(scale: int) -> None:
    policy, prompts = world(full_catalog(120, 3, 3))
    policy.meter = meter = WorkCount()
    seen: list[Prefixes] = []

    def spy(prefixes: Prefixes) -> Tensor:
        seen.append(prefixes)
        return constant(prefixes)

    options = VEDOptions(token_budget=scale, counted="beam")
    search = ved(policy, prompts, 16, spy, options, key=0)
    levels = torch.cat([prefixes.levels for prefixes in seen])
    rows = torch.cat([prefixes.rows for prefixes in seen])
    for row in range(NUM_PROMPTS):
        of_row = levels[rows == row].tolist()
        leaves = of_row.count(3)
        # The root and all prefixes above the leaves: what a beam reads, 1 + 2 * 16 times the scale.
        assert len(of_row) - leaves == 1 + 32 * scale
        assert leaves >= 8
        assert int(search.tokens[row]) == len(of_row)
    assert (levels == 3).sum() > 8 * NUM_PROMPTS
    assert meter.tokens == int(prompts.lengths.sum() + search.tokens.sum()) - NUM_PROMPTS


def test_the_root_gains_a_code_in_every_traversal() -> None:
    # Eq. 14 compares a node with its level, and the root is alone at its own.
    policy, prompts = world(full_catalog(120, 3, 3))
    first_codes: list[int] = []

    def spy(prefixes: Prefixes) -> Tensor:
        first_codes.extend(prefixes.rows[prefixes.levels == 1].tolist())
        # However little the root is worth.
        return torch.where(prefixes.levels == 0, -9.0, 1.0)

    search = ved(policy, prompts, 16, spy, VEDOptions(token_budget=2), key=0)
    planted = beam_search(policy, prompts, 8)
    assert (search.traversals > 0).all()
    for row in range(NUM_PROMPTS):
        # The beam's second and third codes come from no more first codes than it keeps: 8.
        assert int((planted.levels[row] == 1).sum()) <= 8
        assert first_codes.count(row) == 8 + int(search.traversals[row])


def test_a_budget_that_pays_for_no_leaf_takes_one_path_without() -> None:
    policy, prompts = world(full_catalog(4, 4, 4))
    # One candidate: 1 + 2 tokens, a path without its leaf. The most probable child completes it.
    search = ved(policy, prompts, 1, constant, VEDOptions(), key=0)
    assert search.tokens.tolist() == [3] * NUM_PROMPTS
    assert torch.equal(search.tree.leaves, beam_search(policy, prompts, 1).leaves)


@pytest.mark.parametrize("leaf_value", ["own", "parent"])
def test_it_finds_what_a_beam_of_the_same_budget_misses(leaf_value: str) -> None:
    policy, prompts = world(full_catalog(5, 5, 5))
    trie, count = policy.trie, 8
    every = beam_search(policy, prompts, trie.num_leaves)
    # The return of each prefix of a SID that is among the least probable, but not by its first
    # code: the search meets that soon.
    best_code = trie.prefixes(every.leaves)[:, :1, 0]
    under = trie.prefixes(every.leaves)[..., 0] == best_code
    worst = (every.ranks() * under).argmax(dim=1, keepdim=True)
    wanted = every.leaves.gather(1, worst)
    table = torch.zeros(NUM_PROMPTS, trie.num_states)
    table.scatter_(1, trie.prefixes(wanted)[:, 0], 1.0)

    beam = beam_search(policy, prompts, count)
    assert not (beam.leaves == wanted).any()
    options = VEDOptions(
        initial_beam=2,
        token_budget=2,
        leaf_value=leaf_value,  # type: ignore[arg-type]
        ranked_by="value",
    )
    wide = beam_search(policy, prompts, 2 * count)
    search = ved(policy, prompts, count, oracle(table), options, key=0)
    missed = ~(wide.leaves == wanted).any(dim=1)
    found = (search.tree.leaves == wanted).any(dim=1)
    assert missed.sum() >= 3 and found[missed].all()
    if leaf_value == "own":
        # Its own value puts it first.
        assert torch.equal(search.tree.leaves[found, :1], wanted[found])
        assert (search.values[found, 0] == 1).all() and (search.values[found, 1:] == 0).any()


@pytest.mark.parametrize("leaf_value", ["own", "parent"])
@pytest.mark.parametrize("traversals", [1, 8])
def test_it_finds_what_lies_under_a_first_code_that_the_beam_gives_up(
    traversals: int, leaf_value: str
) -> None:
    policy, prompts = world(full_catalog(16, 3, 3))
    trie, count, scale = policy.trie, 8, 4
    every = beam_search(policy, prompts, trie.num_leaves)
    wanted = every.leaves.gather(1, every.ranks().argmax(dim=1, keepdim=True))
    path = trie.prefixes(wanted)[:, 0]
    table = torch.zeros(NUM_PROMPTS, trie.num_states)
    table[:, 0] = 1.0
    table.scatter_(1, path, 1.0)

    # A beam of the same tokens keeps no candidate with this first code, under any prompt.
    wide = beam_search(policy, prompts, scale * count)
    assert (trie.prefixes(wide.leaves)[..., 0] != path[:, :1]).all()
    first = TreeDecoder(policy, prompts, 1).roots().log_probs[:, 0].gather(1, path[:, :1] - 1)
    assert (first.exp() < 0.05).all()
    # Each traversal gives the root another code, so that after 15 this one is there too. Then its
    # value is 1, that of all others 0, and U prefers it until its children are there as well.
    options = VEDOptions(
        initial_beam=2,
        token_budget=scale,
        traversals_per_round=traversals,
        leaf_value=leaf_value,  # type: ignore[arg-type]
    )
    search = ved(policy, prompts, count, oracle(table), options, key=0)
    assert (search.tree.leaves == wanted).any(dim=1).all()
    assert (search.tokens <= options.budget(3, count)).all()
    # It is the value that leads there.
    blind = ved(policy, prompts, count, constant, options, key=0)
    assert not (blind.tree.leaves == wanted).any()


def searched(policy: Policy, prompts: Prompts, value: Value, **options: object) -> list[Tensor]:
    chosen = dataclasses.replace(VEDOptions(), **options)  # type: ignore[arg-type]
    search = ved(policy, prompts, 16, value, chosen, key=0)
    return [search.traversals, search.expansions, search.gated_out, search.tree.leaves]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_each_priority_listens_to_what_it_says() -> None:
    policy, prompts = world(full_catalog(6, 6, 6))
    table = random_table(policy.trie)
    value = oracle(table)
    # V: Eq. 11 without its entropy, whatever lambda is.
    plain = searched(policy, prompts, value, priority="G", entropy_weight=0.0)
    alone = searched(policy, prompts, value, priority="V", entropy_weight=5.0)
    assert equal(plain, alone)
    joint = searched(policy, prompts, value, priority="G", entropy_weight=5.0)
    assert not equal(plain, joint)
    # H: values above the leaves change nothing, nor does lambda; leaves are ranked by theirs.
    first_leaf = policy.trie.first_of_level[-1]
    other = torch.cat([9 * random_table(policy.trie, 1)[:, :first_leaf], table[:, first_leaf:]], 1)
    doubt = searched(policy, prompts, value, priority="H", entropy_weight=0.1)
    again = searched(policy, prompts, oracle(other), priority="H", entropy_weight=5.0)
    assert equal(doubt[:3], again[:3])
    assert not equal(plain, searched(policy, prompts, oracle(other), priority="V"))


@settings(max_examples=25)
@given(
    codes=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    share=st.floats(0.1, 1),
    count=st.integers(1, 20),
    options=st.builds(
        VEDOptions,
        initial_beam=st.integers(1, 9),
        entropy_weight=st.sampled_from([0.0, 0.1, 3.0]),
        exploration=st.sampled_from([0.0, 1.0, 20.0]),
        token_budget=st.sampled_from([1.0, 1.7, 4.0]),
        priority=st.sampled_from(["G", "V", "H"]),
        leaf_value=st.sampled_from(["own", "parent"]),
        counted=st.sampled_from(["read", "beam"]),
        traversals_per_round=st.integers(1, 3),
        picked_by=st.sampled_from(["value", "probability"]),
        ranked_by=st.sampled_from(["value", "probability"]),
    ),
    seed=st.integers(0, 99),
)
def test_what_holds_of_every_search(
    codes: tuple[int, ...], share: float, count: int, options: VEDOptions, seed: int
) -> None:
    policy, prompts = world(tiny_catalog(max(1, int(share * np.prod(codes))), codes, seed))
    trie = policy.trie
    table = random_table(trie, seed) - 0.5
    search = ved(policy, prompts, count, oracle(table), options, key=seed)
    tree = search.tree

    budget = options.budget(trie.num_levels, count)
    assert (search.tokens <= budget).all() or options.counted == "beam"
    assert tree.valid.shape == search.values.shape == (NUM_PROMPTS, count)
    assert tree.valid.any(dim=1).all()
    assert torch.equal(search.values > -torch.inf, tree.valid)
    for row in range(NUM_PROMPTS):
        leaves = tree.leaves[row][tree.valid[row]].tolist()
        assert len(set(leaves)) == len(leaves)
        assert all(int(trie.level[leaf]) == trie.num_levels for leaf in leaves)
    # Real places come first.
    assert (tree.valid[:, :-1] | ~tree.valid[:, 1:]).all()
    with torch.no_grad():
        rated = score(policy, prompts, tree).log_probs
    found = tree.on_paths(tree.log_probs)
    assert found[tree.valid].isfinite().all()
    assert torch.allclose(found[tree.valid], rated[tree.valid], atol=1e-3)
    # A value is that of the candidate, or of its prefix.
    states = torch.where(tree.valid, tree.leaves, 0)
    own = table.gather(1, states) == search.values
    above = table.gather(1, trie.parent[states]) == search.values
    assert (own | above)[tree.valid].all()


@pytest.mark.parametrize("choice", [{}, {"leaf_value": "parent"}, {"counted": "beam"}], ids=str)
def test_neither_order_nor_chunks_nor_padding_matter(choice: dict[str, Any]) -> None:
    policy, prompts = world(tiny_catalog(40, (5, 5, 5), seed=2))
    table = random_table(policy.trie)
    options = VEDOptions(**choice)
    search = ved(policy, prompts, 12, oracle(table), options, key=3)

    on_left, order = turned(prompts)
    again = ved(policy, on_left, 12, oracle(table[order]), options, key=3)
    policy.tokens_per_forward = 1
    alone = ved(policy, prompts, 12, oracle(table), options, key=3)

    for other, rows in ((again, order), (alone, torch.arange(NUM_PROMPTS))):
        assert torch.equal(search.tree.leaves[rows], other.tree.leaves)
        for name in ("values", "tokens", "gated_out"):
            assert torch.equal(getattr(search, name)[rows], getattr(other, name)), name
    different = ved(policy, prompts, 12, oracle(table), options, key=4)
    assert not (
        torch.equal(search.tree.leaves, different.tree.leaves)
        and torch.equal(search.gated_out, different.gated_out)
    )


def test_a_key_is_drawn_from_torchs_generator_and_nothing_else() -> None:
    policy, prompts = world(tiny_catalog(40, (5, 5, 5), seed=2))

    def leaves(key: int | None) -> Tensor:
        return ved(policy, prompts, 12, constant, VEDOptions(initial_beam=2), key=key).tree.leaves

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = leaves(None)
        torch.manual_seed(0)
        assert torch.equal(leaves(None), first)
        before = torch.get_rng_state()
        leaves(7)
        assert torch.equal(torch.get_rng_state(), before)


def test_the_value_sees_the_hidden_states_of_the_whole_path() -> None:
    policy, prompts = world(full_catalog(4, 4, 4))
    seen: list[Prefixes] = []

    def spy(prefixes: Prefixes) -> Tensor:
        seen.append(prefixes)
        return constant(prefixes)

    search = ved(policy, prompts, 8, spy, VEDOptions(initial_beam=2), key=0)
    tree = search.tree
    with torch.no_grad():
        scores = score(policy, prompts, tree, leaves=True)
    checked = 0
    for prefixes in seen:
        for i, (row, state) in enumerate(zip(prefixes.rows, prefixes.states, strict=True)):
            level = int(policy.trie.level[state])
            assert int(prefixes.levels[i]) == level
            at = (tree.states[row] == state).nonzero()
            if level == 0:
                expected = [scores.root_hidden[row]]
            elif len(at):
                node = int(at[0])
                path = [node]
                while int(tree.parents[row, path[0]]) >= 0:
                    path.insert(0, int(tree.parents[row, path[0]]))
                expected = [scores.root_hidden[row], *scores.node_hidden[row, path]]
                checked += level == 3
            else:
                continue
            found = prefixes.hidden[i, : level + 1]
            assert torch.allclose(found, torch.stack(expected), atol=1e-4)
    assert checked > NUM_PROMPTS


def test_more_traversals_a_round_take_fewer_rounds_for_the_same_tokens() -> None:
    policy, prompts = world(full_catalog(120, 3, 3))
    value = oracle(random_table(policy.trie))
    single, several = (
        ved(policy, prompts, 16, value, VEDOptions(token_budget=4, traversals_per_round=n), key=0)
        for n in (1, 4)
    )
    assert torch.equal(single.tokens, several.tokens)
    assert several.rounds < single.rounds / 2
