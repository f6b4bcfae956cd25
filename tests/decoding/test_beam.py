from typing import get_args

import pytest
import torch
from search_world import turned, world
from torch.nn.functional import pad

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.decoding.beam import TreeDecoder, beam_search, chunks, ranks_in_rows
from genrec_bench.policy.policy import LogProbSpace, WorkCount
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.selfcheck import repeated_log_probs

SHAPES = [(40,), (5, 6), (3, 4, 3), (3, 2, 3, 2), (2, 3, 2, 2, 2)]


@torch.no_grad()
@pytest.mark.parametrize("space", get_args(LogProbSpace))
@pytest.mark.parametrize("codes", SHAPES, ids=lambda codes: f"L={len(codes)}")
def test_a_beam_as_wide_as_the_catalog_ranks_it_by_brute_force(
    codes: tuple[int, ...], space: LogProbSpace
) -> None:
    catalog = tiny_catalog(18, codes, seed=len(codes))
    policy, prompts = world(catalog, space)
    num_sids = len(catalog.unique_sids)

    tree = beam_search(policy, prompts, num_sids + 2)

    every = policy.trie.leaf(torch.arange(num_sids)).expand(5, -1)
    exact = repeated_log_probs(policy, prompts, every).sum(dim=-1)
    best, order = exact.sort(dim=1, descending=True)
    assert tree.valid.sum(dim=1).tolist() == [num_sids] * 5
    found = tree.sequence_log_probs()[:, :num_sids]
    assert torch.allclose(found, best, atol=1e-4)
    assert torch.equal(tree.leaves[:, :num_sids], every.gather(1, order))


@torch.no_grad()
@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_narrow_beam_keeps_the_best_prefixes_of_each_level(width: int) -> None:
    policy, prompts = world(tiny_catalog(25, (5, 5, 5), seed=3))

    tree = beam_search(policy, prompts, width)

    trie = policy.trie
    every = trie.leaf(torch.arange(trie.num_leaves)).expand(5, -1)
    log_probs = repeated_log_probs(policy, prompts, every)
    prefixes = trie.prefixes(every[0])
    for row in range(5):
        kept = {0: 0.0}
        for level in range(trie.num_levels):
            totals = {
                int(prefixes[sid, level]): float(log_probs[row, sid, : level + 1].sum())
                for sid in range(trie.num_leaves)
                if level == 0 or int(prefixes[sid, level - 1]) in kept
            }
            kept = dict(sorted(totals.items(), key=lambda pair: -pair[1])[:width])
        real = tree.valid[row]
        assert tree.leaves[row][real].tolist() == list(kept)
        assert torch.allclose(
            tree.sequence_log_probs()[row][real], torch.tensor(list(kept.values())), atol=1e-4
        )


@torch.no_grad()
def test_padding_and_neighbours_change_nothing() -> None:
    policy, prompts = world(tiny_catalog(seed=1))
    on_left, order = turned(prompts)
    # More padding on the left than there has to be.
    wider = Prompts(pad(on_left.tokens, (3, 0), value=7), pad(on_left.mask, (3, 0)))

    whole = beam_search(policy, prompts, 6)
    left = beam_search(policy, wider, 6).select(order)
    policy.tokens_per_forward = 1
    alone = beam_search(policy, prompts, 6)

    for other in (left, alone):
        assert torch.equal(whole.leaves, other.leaves)
        assert torch.allclose(whole.log_probs, other.log_probs, atol=1e-5)


@torch.no_grad()
def test_the_meter_hears_of_each_prompt_and_each_node_once() -> None:
    policy, prompts = world(tiny_catalog(seed=1))
    policy.meter = meter = WorkCount()
    width = 3

    beam_search(policy, prompts, width)

    # Levels 1 and 2 are read, `width` nodes each; every first code of this catalog is there.
    assert policy.trie.fan_out[0] >= width
    assert meter.flops > 0
    assert meter.tokens == int(prompts.lengths.sum()) + 5 * 2 * width


def test_more_nodes_than_there_is_room_for_are_refused() -> None:
    policy, prompts = world(tiny_catalog())
    with torch.no_grad():
        decoder = TreeDecoder(policy, prompts, capacity=1)
        states = decoder.roots().states[:, 0, :2]
        with pytest.raises(ValueError, match="capacity"):
            decoder.expand(states, torch.full_like(states, -1))


@torch.no_grad()
def test_nodes_may_be_expanded_in_any_order() -> None:
    """A node of level 2 before its aunt of level 1: what a search by value does."""
    policy, prompts = world(tiny_catalog(25, (5, 5, 5), seed=3))
    trie = policy.trie
    decoder = TreeDecoder(policy, prompts, capacity=3)

    first = decoder.roots().states[:, 0, :1]
    below = decoder.expand(first, torch.full_like(first, -1)).states[:, 0, :1]
    aunt = decoder.roots().states[:, 0, 1:2]
    mixed = torch.cat([below, aunt], dim=1)
    found = decoder.expand(mixed, torch.tensor([[0, -1]]).expand(5, -1))

    assert (found.states[:, 0][found.log_probs[:, 0].isfinite()] != trie.dead).all()
    for node, level in ((0, 2), (1, 1)):
        real = found.log_probs[:, node].isfinite()
        leaf = found.states[:, node, :1]
        while (trie.level[leaf] < trie.num_levels).any():
            leaf = torch.where(trie.level[leaf] < trie.num_levels, trie.first_child[leaf], leaf)
        exact = repeated_log_probs(policy, prompts, leaf)[:, 0, level]
        assert real[:, 0].all()
        assert torch.allclose(found.log_probs[:, node, 0], exact, atol=1e-4)


@torch.no_grad()
def test_prompts_may_read_different_nodes_in_different_numbers() -> None:
    policy, prompts = world(tiny_catalog(25, (5, 5, 5), seed=3))
    trie = policy.trie
    sids = torch.tensor([[0, 24], [3, 20], [7, 8], [11, 1], [24, 2]])
    leaves = trie.leaf(sids)
    exact = repeated_log_probs(policy, prompts, leaves)
    on_path = trie.prefixes(leaves)
    decoder = TreeDecoder(policy, prompts, capacity=2 + 3 * 2)
    # After a rectangle in which nobody but prompt 3 has a node, each prompt reads one path or two.
    dead = torch.full((5, 2), trie.dead)
    dead[3, 1] = on_path[3, 0, 0]
    decoder.expand(dead, torch.full_like(dead, -1), level=1)
    rows = torch.tensor([0, 0, 1, 2, 2, 3, 4, 4])
    which = torch.tensor([0, 1, 0, 0, 1, 0, 0, 1])
    places = torch.full_like(rows, -1)
    for level in (1, 2, 3):
        states = on_path[rows, which, level - 1]
        if level == 1:
            # Prompt 3 has its first node already, in the second column.
            new = rows != 3
            places[~new] = 1
            found, hidden = decoder.read(rows[new], states[new], places[new])
            places[new] = found
            states = states[new]
        else:
            new = torch.ones_like(rows, dtype=torch.bool)
            places, hidden = decoder.read(rows, states, places)
        if level == 3:
            assert hidden.isfinite().all() and len(hidden) == len(rows)
            break
        children, log_probs = decoder.children(states, hidden, max(trie.fan_out))
        following = on_path[rows[new], which[new], level].unsqueeze(1)
        assert ((children == following).sum(dim=1) == 1).all()
        found_log_probs = log_probs[children == following]
        assert torch.allclose(found_log_probs, exact[rows[new], which[new], level], atol=1e-4)
    with pytest.raises(ValueError, match="capacity"):
        decoder.read(rows, on_path[rows, which, 0], places)


def test_things_are_counted_row_by_row() -> None:
    ranks, counts = ranks_in_rows(torch.tensor([0, 0, 2, 2, 2]), 4)
    assert ranks.tolist() == [0, 1, 0, 1, 2]
    assert counts.tolist() == [2, 0, 3, 0]


def test_chunks_hold_every_prompt_once_and_keep_to_the_limit() -> None:
    sizes = torch.tensor([5, 40, 7, 7, 12, 3])

    parts = list(chunks(sizes, 24))

    assert sorted(torch.cat(parts).tolist()) == list(range(6))
    for part in parts:
        assert len(part) == 1 or len(part) * int(sizes[part].max()) <= 24
    assert parts[0].tolist() == [1]


@torch.no_grad()
@pytest.mark.parametrize("level", [1, 2])
def test_places_that_hold_no_node_change_nothing_of_the_others(level: int) -> None:
    policy, prompts = world(tiny_catalog(25, (5, 5, 5), seed=3))
    trie = policy.trie
    found = []
    for nobody in (False, True):
        decoder = TreeDecoder(policy, prompts, capacity=6)
        states = trie.first_child[torch.zeros(5, 1, dtype=torch.long)]
        parents = torch.full_like(states, -1)
        for _ in range(level):
            dead = torch.full_like(states, trie.dead)
            asked = torch.cat([states, dead], dim=1) if nobody else states
            above = torch.cat([parents, parents], dim=1) if nobody else parents
            expansion = decoder.expand(asked, above)
            parents = torch.zeros_like(states)
            states = expansion.states[:, :1, 0]
        found.append(expansion)
    alone, among = found
    assert torch.equal(alone.states[:, 0], among.states[:, 0])
    assert torch.allclose(alone.log_probs[:, 0], among.log_probs[:, 0], atol=1e-5)
    assert torch.allclose(alone.hidden[:, 0], among.hidden[:, 0], atol=1e-5)
    assert (among.states[:, 1] == trie.dead).all() and not among.hidden[:, 1].any()
    assert (among.log_probs[:, 1] == -torch.inf).all()
