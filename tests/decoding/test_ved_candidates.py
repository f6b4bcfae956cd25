"""Which candidates a search returns, and in which order."""

import numpy as np
import pytest
import torch
from search_world import NUM_PROMPTS, full_catalog, oracle, random_table, world
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.value import Prefixes
from genrec_bench.decoding.ved import ved
from genrec_bench.decoding.ved_options import VEDOptions


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_what_fills_up_was_never_read(scale: float) -> None:
    policy, prompts = world(full_catalog(6, 4, 4))
    trie, table = policy.trie, random_table(policy.trie)
    read: set[tuple[int, int]] = set()

    def spy(prefixes: Prefixes) -> Tensor:
        pairs = list(zip(prefixes.rows.tolist(), prefixes.states.tolist(), strict=True))
        assert read.isdisjoint(pairs)
        read.update(pairs)
        return oracle(table)(prefixes)

    options = VEDOptions(token_budget=scale, ranked_by="value")
    search = ved(policy, prompts, 16, spy, options, key=0)
    assert search.tree.valid.all()
    for row, leaves in enumerate(search.tree.leaves.tolist()):
        was_read = [(row, leaf) in read for leaf in leaves]
        assert was_read == sorted(was_read, reverse=True), "those that were read come first"
        filled = [leaf for leaf, own in zip(leaves, was_read, strict=True) if not own]
        assert int(search.filled[row]) == len(filled)
        assert all((row, int(trie.parent[leaf])) in read for leaf in filled)
        if filled:
            # Every leaf that was read is a candidate.
            first_leaf = trie.first_of_level[-1]
            all_read = {state for place, state in read if place == row and state >= first_leaf}
            assert all_read == set(leaves) - set(filled)
    # A beam of 8 over 3 levels takes 25 of 33 tokens; four times as many reach leaves enough.
    assert (search.filled > 0).all() if scale == 1 else (search.filled == 0).any()


@pytest.mark.parametrize("ranked_by", ["value", "probability"])
@pytest.mark.parametrize("picked_by", ["value", "prefix", "probability"])
@pytest.mark.parametrize(("scale", "step"), [(1, 0.01), (1, 0.25), (2, 0.25), (4, 0.25)])
def test_candidates_are_those_of_plain_loops(
    scale: int, step: float, picked_by: str, ranked_by: str
) -> None:
    policy, prompts = world(full_catalog(6, 4, 4))
    trie, num_levels = policy.trie, 3
    # Coarse values are often equal.
    table = (random_table(trie) / step).round() * step
    read: list[tuple[int, int]] = []

    def spy(prefixes: Prefixes) -> Tensor:
        read.extend(zip(prefixes.rows.tolist(), prefixes.states.tolist(), strict=True))
        return oracle(table)(prefixes)

    options = VEDOptions(token_budget=scale, picked_by=picked_by, ranked_by=ranked_by)  # type: ignore[arg-type]
    search = ved(policy, prompts, 16, spy, options, key=0)
    every = beam_search(policy, prompts, trie.num_leaves)
    for row in range(NUM_PROMPTS):
        likely = dict(
            zip(every.leaves[row].tolist(), every.sequence_log_probs()[row].tolist(), strict=True)
        )
        states = {state for place, state in read if place == row}
        leaves = [state for state in states if int(trie.level[state]) == num_levels]
        values = {leaf: float(table[row, leaf]) for leaf in leaves}
        turns = {leaf: -1 for leaf in leaves}
        for prefix in states:
            if int(trie.level[prefix]) == num_levels - 1:
                first = int(trie.first_child[prefix])
                children = range(first, first + int(trie.num_children[prefix]))
                short = sorted(set(children) - set(leaves), key=lambda leaf: -likely[leaf])
                turns |= {leaf: turn for turn, leaf in enumerate(short)}
                values |= {leaf: float(table[row, prefix]) for leaf in short}
        if picked_by != "probability":
            if picked_by == "prefix":
                turns = {leaf: min(turn, 0) for leaf, turn in turns.items()}
            picked = sorted(turns, key=lambda leaf: (turns[leaf], -values[leaf], -likely[leaf]))
        else:
            picked = sorted(turns, key=lambda leaf: -likely[leaf])
        picked = picked[:16]
        if ranked_by == "probability":
            picked.sort(key=lambda leaf: -likely[leaf])
        assert search.tree.leaves[row].tolist() == picked
        assert search.values[row].tolist() == pytest.approx([values[leaf] for leaf in picked])
        assert int(search.filled[row]) == sum(turns[leaf] >= 0 for leaf in picked)


@pytest.mark.parametrize("codes", [(7,), (4, 5), (3, 3, 3), (2, 3, 2, 2)])
def test_a_budget_for_the_whole_catalog_ranks_it_by_value(codes: tuple[int, ...]) -> None:
    policy, prompts = world(tiny_catalog(int(0.7 * np.prod(codes)), codes))
    trie = policy.trie
    table = random_table(trie)
    # All prefixes are worth the same, so that no gate is ever shut.
    table[:, : trie.first_of_level[-1]] = 0.5
    options = VEDOptions(token_budget=30, entropy_weight=0, exploration=3, ranked_by="value")
    search = ved(policy, prompts, 4, oracle(table), options, key=0)
    if len(codes) == 1:
        # Nothing can be paid but the root: its children by probability.
        assert torch.equal(search.tree.leaves, beam_search(policy, prompts, 4).leaves)
        assert search.tokens.tolist() == [1] * NUM_PROMPTS
        return
    # It stops when there is nothing left to read.
    assert search.tokens.tolist() == [trie.num_states] * NUM_PROMPTS
    best, order = table[:, trie.first_of_level[-1] :].sort(dim=1, descending=True)
    assert torch.equal(search.tree.leaves, trie.leaf(order[:, :4]))
    assert torch.equal(search.values, best[:, :4])


def test_leaf_values_of_the_parent_are_free_and_ties_go_by_probability() -> None:
    policy, prompts = world(full_catalog(40, 4, 4))
    trie = policy.trie
    table = random_table(trie)
    options = VEDOptions(leaf_value="parent", ranked_by="value")
    search = ved(policy, prompts, 12, oracle(table), options, key=0)
    parents = trie.parent[search.tree.leaves]
    assert torch.equal(search.values, table.gather(1, parents))
    likely = search.tree.sequence_log_probs()
    same = parents[:, 1:] == parents[:, :-1]
    assert same.any() and (likely[:, :-1] >= likely[:, 1:])[same].all()
    # A token for each node above the leaves. 8 paths of 2 are 16 at most, 8 more remain.
    assert search.tokens.tolist() == [25] * NUM_PROMPTS
