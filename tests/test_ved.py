"""VED: formulas by hand, the budget to the token, and its purpose: to find what beams miss."""

import dataclasses
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genrec_bench.dataset import Catalog
from genrec_bench.decode import TreeDecoder, beam_search
from genrec_bench.policy import Policy
from genrec_bench.prompts import Prompts
from genrec_bench.scoring import score
from genrec_bench.search_tree import SearchTree
from genrec_bench.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.trie import Trie
from genrec_bench.value import Prefixes, Value
from genrec_bench.ved import Search, VEDOptions, ved

NUM_PROMPTS = 5


def world(catalog: Catalog) -> tuple[Policy, Prompts]:
    policy = tiny_policy(catalog)
    examples = tiny_examples(catalog, NUM_PROMPTS)
    return policy, policy.prompt_format.encode(examples, np.arange(NUM_PROMPTS))


def full_catalog(*codes: int) -> Catalog:
    return tiny_catalog(int(np.prod(codes)), codes)


def oracle(table: Tensor) -> Value:
    """The value of a state under a prompt, from a table [B, num_states]."""

    def value(prefixes: Prefixes) -> Tensor:
        return table[prefixes.rows, prefixes.states]

    return value


def constant(prefixes: Prefixes) -> Tensor:
    return torch.zeros(len(prefixes.states))


def random_table(trie: Trie, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(NUM_PROMPTS, trie.num_states, generator=generator)


# --- formulas ---------------------------------------------------------------------------------


def three_codes() -> SearchTree:
    """A root whose children are 0.5, 0.3 and 0.2 probable; the first two are in the tree."""
    sids = np.array([[0, 0], [0, 1], [1, 0], [2, 0]], dtype=np.int32)
    trie = Trie.build(sids, (3, 2))
    tree = SearchTree(trie, 1, 6, torch.zeros(1, 4))
    root = torch.tensor([0])
    tree.open_up(root, root, torch.tensor([[0.5, 0.3, 0.2]]).log())
    tree.rate(root, root, torch.tensor([0.0]), torch.tensor([0.0]))
    both = torch.tensor([0, 0])
    nodes = tree.add(both, both, torch.tensor([0, 1]))
    assert nodes.tolist() == [1, 2]
    tree.rate(both, nodes, torch.tensor([0.2, 0.6]), torch.tensor([0.2, 0.6]))
    return tree


def test_entropy_is_that_of_the_valid_children() -> None:
    tree = three_codes()
    one = torch.tensor([0])
    # -(0.5 ln 0.5 + 0.3 ln 0.3 + 0.2 ln 0.2) = 0.34657 + 0.36119 + 0.32189
    entropy = tree.open_up(one, one, torch.tensor([[0.5, 0.3, 0.2]]).log())
    assert float(entropy) == pytest.approx(1.02965, abs=1e-4)
    # 0.06 and 0.02, renormalised 0.75 and 0.25: 0.21576 + 0.34657
    entropy = tree.open_up(one, one, torch.tensor([[0.06, 0.0, 0.02]]).log())
    assert float(entropy) == pytest.approx(0.56234, abs=1e-4)


def test_upper_bounds_and_the_way_that_they_lead() -> None:
    tree = three_codes()
    on = torch.tensor([True])

    # N_root = 0: ln 1 = 0, so U = G, and 0.6 > 0.2.
    assert tree.upper_bounds(1.0)[0, 1:3].tolist() == pytest.approx([0.2, 0.6])
    path, on_path = tree.traverse(on, 1.0)
    assert path[0, :2].tolist() == [0, 2] and on_path.tolist() == [[True, True, False]]

    # N_root = 1: 0.2 + sqrt(ln 2 / 1) = 1.03255 and 0.6 + sqrt(ln 2 / 2) = 1.18871.
    expected = pytest.approx([1.03255, 1.18871], abs=1e-4)
    assert tree.upper_bounds(1.0)[0, 1:3].tolist() == expected
    assert tree.traverse(on, 1.0)[0][0, 1] == 2

    # N_root = 2: 0.2 + sqrt(ln 3 / 1) = 1.24815 and 0.6 + sqrt(ln 3 / 3) = 1.20515.
    expected = pytest.approx([1.24815, 1.20515], abs=1e-4)
    assert tree.upper_bounds(1.0)[0, 1:3].tolist() == expected
    assert tree.traverse(on, 1.0)[0][0, 1] == 1
    assert tree.visits[0, :3].tolist() == [3, 1, 2]

    # Trees that are not active are not walked; beta scales the bonus alone.
    assert not tree.traverse(torch.tensor([False]), 1.0)[1].any()
    assert tree.upper_bounds(0.0)[0, 1:3].tolist() == pytest.approx([0.2, 0.6])


def test_the_gate_is_the_mean_of_the_level() -> None:
    tree = three_codes()
    # Level 1: (0.2 + 0.6) / 2 = 0.4. The root is alone at its level.
    assert tree.decisive()[0, :3].tolist() == [True, False, True]
    # A third of 0.4 leaves the mean at 0.4, and reaches it; all equal ones do.
    node = tree.add(torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
    assert not tree.decisive()[0, 3]
    tree.rate(torch.tensor([0]), node, torch.tensor([0.1]), torch.tensor([0.1]))
    assert tree.decisive()[0, 1:4].tolist() == [False, True, False]


def test_equal_priorities_all_pass() -> None:
    # 0.1 as float32, summed and divided again, must not exceed itself.
    trie = Trie.build(np.arange(7, dtype=np.int32)[:, None], (7,))
    tree = SearchTree(trie, 1, 8, torch.zeros(1, 4))
    root = torch.tensor([0])
    tree.open_up(root, root, torch.zeros(1, 7))
    rows = torch.zeros(7, dtype=torch.long)
    nodes = tree.add(rows, rows, torch.arange(7))
    tree.rate(rows, nodes, torch.full((7,), 0.1), torch.full((7,), 0.1))
    assert tree.decisive()[0, 1:].all()


# --- budget -----------------------------------------------------------------------------------


def test_the_budget_is_that_of_a_beam() -> None:
    # §5.5: a beam of 16 at L = 3 spends 1 + 2 * 16; two, three and four times as much beyond the 1.
    sizes = [VEDOptions(token_budget=scale).budget(3, 16) for scale in (1, 2, 3, 4)]
    assert sizes == [33, 65, 97, 129]
    assert VEDOptions(token_budget=1.3).budget(3, 5) == 1 + 13
    assert VEDOptions(token_budget=9).budget(1, 16) == 1


@pytest.mark.parametrize(
    "choice",
    [{"priority": "U"}, {"leaf_value": "no"}, {"initial_beam": 0}, {"token_budget": 0.9}],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused(choice: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(choice))):
        dataclasses.replace(VEDOptions(), **choice)  # type: ignore[arg-type]


class Meter:
    """Adds up tokens."""

    tokens = 0

    def charge(self, *, tokens: int, flops: float) -> None:
        self.tokens += tokens

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.mark.parametrize("leaf_value", ["own", "parent"])
@pytest.mark.parametrize("scale", [1, 4])
def test_every_token_that_is_spent_is_metered(scale: float, leaf_value: str) -> None:
    policy, prompts = world(full_catalog(120, 3, 3))
    policy.meter = meter = Meter()
    options = VEDOptions(token_budget=scale, leaf_value=leaf_value)  # type: ignore[arg-type]
    search = ved(policy, prompts, 16, constant, options, key=0)
    # The root's prediction is the prompt's last token.
    assert meter.tokens == int(prompts.lengths.sum() + search.tokens.sum()) - NUM_PROMPTS
    # With so many first codes every traversal adds something.
    assert search.tokens.tolist() == [options.budget(3, 16)] * NUM_PROMPTS
    # A beam of 8 over 3 levels, or over the 2 above the leaves, is the start; each addition after
    # that costs 1, but for leaves that have their parent's value.
    start = 1 + 8 * (3 if leaf_value == "own" else 2)
    paid = search.expansions if leaf_value == "own" else search.tokens - start
    assert (search.tokens == start + paid).all() and (search.expansions >= paid).all()
    # UCB and the gate were at work.
    assert (search.traversals > 0).all() and (search.expansions > 0).all()
    assert search.gated_out.sum() > 0 and search.rounds > 0


def test_a_budget_that_pays_for_no_leaf_takes_one_path_without() -> None:
    policy, prompts = world(full_catalog(4, 4, 4))
    # One candidate: 1 + 2 tokens, a path without its leaf. The most probable child completes it.
    search = ved(policy, prompts, 1, constant, VEDOptions(), key=0)
    assert search.tokens.tolist() == [3] * NUM_PROMPTS
    assert torch.equal(search.tree.leaves, beam_search(policy, prompts, 1).leaves)


# --- the search, by hand ------------------------------------------------------------------------


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
        options = VEDOptions(initial_beam=1, entropy_weight=0, exploration=exploration)
        search = ved(policy, prompts, count, oracle(table), options, key=0)
    parents = policy.trie.parent[search.tree.leaves]
    of_first = table.gather(1, parents.clamp(max=table.shape[1] - 1)) == first
    # What fills a group has its prefix's value; the leaves' own are below 0.01.
    return search, (of_first & (search.values < 0.01)).sum(dim=1)


def test_one_traversal_by_hand() -> None:
    # Budget 5: the root, code a and its best leaf, and two more. The traversal gives the root its
    # other code b, and a, alone at its level, its other leaf. b's leaves fill up.
    search, of_first = run_by_hand(2, 4, first=0.5, second=0.4, exploration=1)
    assert search.tokens.tolist() == [5] * NUM_PROMPTS
    assert search.traversals.tolist() == [1] * NUM_PROMPTS and search.rounds == 1
    assert search.expansions.tolist() == [2] * NUM_PROMPTS
    assert search.gated_out.tolist() == [0] * NUM_PROMPTS
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
    assert search.tokens.tolist() == [6] * NUM_PROMPTS
    assert search.expansions.tolist() == [3] * NUM_PROMPTS
    assert search.traversals.tolist() == [traversals] * NUM_PROMPTS
    assert search.gated_out.tolist() == [gated_out] * NUM_PROMPTS
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


# --- what it is for -----------------------------------------------------------------------------


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
    options = VEDOptions(initial_beam=2, token_budget=2, leaf_value=leaf_value)  # type: ignore[arg-type]
    wide = beam_search(policy, prompts, 2 * count)
    search = ved(policy, prompts, count, oracle(table), options, key=0)
    missed = ~(wide.leaves == wanted).any(dim=1)
    found = (search.tree.leaves == wanted).any(dim=1)
    assert missed.sum() >= 3 and found[missed].all()
    if leaf_value == "own":
        # Its own value puts it first.
        assert torch.equal(search.tree.leaves[found, :1], wanted[found])
        assert (search.values[found, 0] == 1).all() and (search.values[found, 1:] == 0).any()


@pytest.mark.parametrize("codes", [(7,), (4, 5), (3, 3, 3), (2, 3, 2, 2)])
def test_a_budget_for_the_whole_catalog_ranks_it_by_value(codes: tuple[int, ...]) -> None:
    policy, prompts = world(tiny_catalog(int(0.7 * np.prod(codes)), codes))
    trie = policy.trie
    table = random_table(trie)
    # All prefixes are worth the same, so that no gate is ever shut.
    table[:, : trie.first_of_level[-1]] = 0.5
    options = VEDOptions(token_budget=30, entropy_weight=0, exploration=3)
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
    search = ved(policy, prompts, 12, oracle(table), VEDOptions(leaf_value="parent"), key=0)
    parents = trie.parent[search.tree.leaves]
    assert torch.equal(search.values, table.gather(1, parents))
    likely = search.tree.sequence_log_probs()
    same = parents[:, 1:] == parents[:, :-1]
    assert same.any() and (likely[:, :-1] >= likely[:, 1:])[same].all()
    # A token for each node above the leaves. 8 paths of 2 are 16 at most, 8 more remain.
    assert search.tokens.tolist() == [25] * NUM_PROMPTS


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


# --- whatever the world ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
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
        traversals_per_round=st.integers(1, 3),
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

    assert (search.tokens <= options.budget(trie.num_levels, count)).all()
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


@pytest.mark.parametrize("leaf_value", ["own", "parent"])
def test_neither_order_nor_chunks_nor_padding_matter(leaf_value: str) -> None:
    policy, prompts = world(tiny_catalog(40, (5, 5, 5), seed=2))
    table = random_table(policy.trie)
    options = VEDOptions(leaf_value=leaf_value)  # type: ignore[arg-type]
    search = ved(policy, prompts, 12, oracle(table), options, key=3)

    order = torch.arange(NUM_PROMPTS).flip(0)
    width = prompts.mask.shape[1]
    place = (torch.arange(width) + prompts.lengths.unsqueeze(1)) % width
    on_left = Prompts(prompts.tokens.gather(1, place), prompts.mask.gather(1, place))
    turned = ved(policy, on_left.select(order), 12, oracle(table[order]), options, key=3)
    policy.tokens_per_forward = 1
    alone = ved(policy, prompts, 12, oracle(table), options, key=3)

    for other, rows in ((turned, order), (alone, torch.arange(NUM_PROMPTS))):
        assert torch.equal(search.tree.leaves[rows], other.tree.leaves)
        assert torch.equal(search.values[rows], other.values)
        assert torch.equal(search.tokens[rows], other.tokens)
        assert torch.equal(search.gated_out[rows], other.gated_out)
    different = ved(policy, prompts, 12, oracle(table), options, key=4)
    assert not torch.equal(search.tree.leaves, different.tree.leaves)


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
