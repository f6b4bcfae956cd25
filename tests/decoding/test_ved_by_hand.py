"""Small searches whose every step can be worked out: who is visited, who grows, what is drawn."""

import pytest
import torch
from search_world import NUM_PROMPTS, constant, full_catalog, oracle, random_table, world
from torch import Tensor

from genrec_bench.decoding.beam import TreeDecoder
from genrec_bench.decoding.value import Prefixes
from genrec_bench.decoding.ved import Search, ved
from genrec_bench.decoding.ved_options import VEDOptions
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts


def two_codes(leaves_each: int, first: float, second: float) -> tuple[Policy, Prompts, Tensor]:
    """Two codes with some leaves each; values of the more and of the less probable of the two."""
    policy, prompts = world(full_catalog(2, leaves_each))
    table = random_table(policy.trie) / 100
    roots = TreeDecoder(policy, prompts, 1).roots()
    likely = roots.states[:, 0].gather(1, roots.log_probs[:, 0].argmax(dim=1, keepdim=True))
    table[:, 1:3] = second
    table.scatter_(1, likely, first)
    return policy, prompts, table


def run_by_hand(
    leaves_each: int, count: int, first: float, second: float, exploration: float
) -> tuple[Search, Tensor]:
    """Return a search, and how many leaves of the more probable code were found by searching."""
    with torch.no_grad():
        policy, prompts, table = two_codes(leaves_each, first, second)
        options = VEDOptions(
            initial_beam=1, entropy_weight=0, exploration=exploration, ranked_by="value"
        )
        search = ved(policy, prompts, count, oracle(table), options, key=0)
    parents = policy.trie.parent[search.tree.leaves]
    of_first = table.gather(1, parents.clamp(max=table.shape[1] - 1)) == first
    # What fills a group has its prefix's value; the leaves' own are below 0.01.
    return search, (of_first & (search.values < 0.01)).sum(dim=1)


def figures(search: Search) -> list[list[int]]:
    """What a search spent, walked, added and refused, of each prompt."""
    return torch.stack(
        [search.tokens, search.traversals, search.expansions, search.gated_out], dim=1
    ).tolist()


def test_one_traversal_by_hand() -> None:
    # Budget 5: the root, code a and its best leaf, and two more. The traversal gives the root its
    # other code b, and a, alone at its level, its other leaf. b's leaves fill up.
    search, of_first = run_by_hand(2, 4, first=0.5, second=0.4, exploration=1)
    assert figures(search) == [[5, 1, 2, 0]] * NUM_PROMPTS and search.rounds == 1
    assert of_first.tolist() == [2] * NUM_PROMPTS
    assert (search.values[:, 0] >= search.values[:, 1]).all()
    assert search.values[:, 2:].flatten().tolist() == pytest.approx([0.4] * 2 * NUM_PROMPTS)
    assert search.tree.valid.all()


@pytest.mark.parametrize(
    ("first", "second", "exploration", "traversals", "gated_out", "of_first"),
    [
        # Budget 6; the first traversal adds code b, and a's second leaf. Then one is left, N_root
        # and N(a) are 1, N(b) is 0, and the mean of level 1 is 0.5.
        # U(a) = 0.9 + sqrt(ln 2 / 2) = 1.49, U(b) = 0.1 + sqrt(ln 2) = 0.93: a gains its third.
        (0.9, 0.1, 1.0, 2, 0, 3),
        # U(a) = 0.1 + 0.59 = 0.69, U(b) = 0.9 + 0.83 = 1.73: b gains a leaf.
        (0.1, 0.9, 1.0, 2, 0, 2),
        # U(a) = 0.9 + 5.89 = 6.79, U(b) = 0.1 + 8.33 = 8.43: to b, whose gate is shut. Then
        # N_root = 2, N(a) = N(b) = 1, and a, of the larger G, gains its third.
        (0.9, 0.1, 10.0, 3, 1, 3),
    ],
)
def test_ucb_and_gate_by_hand(
    first: float,
    second: float,
    exploration: float,
    traversals: int,
    gated_out: int,
    of_first: int,
) -> None:
    search, found = run_by_hand(3, 5, first, second, exploration)
    assert figures(search) == [[6, traversals, 3, gated_out]] * NUM_PROMPTS
    assert found.tolist() == [of_first] * NUM_PROMPTS


def test_children_are_drawn_by_their_renormalised_probability() -> None:
    # 1 + 3 tokens: the root, the likeliest code and its leaf, and one more code, drawn from the
    # rest. It is the last prefix to be rated.
    policy, prompts = world(full_catalog(5, 2))
    drawn: list[Prefixes] = []

    def spy(prefixes: Prefixes) -> Tensor:
        drawn.append(prefixes)
        return constant(prefixes)

    with torch.no_grad():
        chances = TreeDecoder(policy, prompts, 1).roots().log_probs[:, 0].exp()
    chances.scatter_(1, chances.argmax(dim=1, keepdim=True), 0.0)
    chances /= chances.sum(dim=1, keepdim=True)
    repeats = 120
    counts = torch.zeros_like(chances)
    for key in range(repeats):
        ved(policy, prompts, 3, spy, VEDOptions(initial_beam=1), key=key)
        counts[drawn[-1].rows, drawn[-1].states - 1] += 1
    assert (counts[chances == 0] == 0).all()
    deviation = (chances * (1 - chances) / repeats).sqrt()
    assert ((counts / repeats - chances).abs() <= 4.5 * deviation + 1e-6).all()
    # Not each as often as the others: the policy is far from uniform.
    assert (chances.amax(dim=1) > 0.25 + 4.5 * 0.04).any()
