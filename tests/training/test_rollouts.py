"""Which groups a step learns from: those that are accepted, in the order of visits, and no more."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from watched_steps import CATALOG, EXAMPLES, GROUP_SIZE, PROMPTS, Watched, rollout_stepper

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithms.srpo import SRPO, SRPOHyperparameters
from genrec_bench.contract.tiny_world import tiny_policy
from genrec_bench.data.dataset import Examples
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.training.groups import Groups, Seen
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.rollouts import Rollouts, Sampler, join
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.views import Views
from genrec_bench.training.workers import Workers


class Picky(GRPO):
    """Learns only from prompts whose target is on its list."""

    def __init__(self, liked: set[int], refills: int = 9, **values: Any) -> None:
        super().__init__(GRPOHyperparameters(reward="rank", **values))
        self.liked = liked
        self.most_refills = refills

    def accepts(self, seen: Seen, rewards: Tensor) -> Tensor:
        return torch.isin(seen.targets, torch.tensor(sorted(self.liked)))


def leaves_of(policy: Policy) -> list[int]:
    """The target of each example, as a leaf state."""
    items = torch.from_numpy(EXAMPLES.targets.astype(np.int64))
    leaves: list[int] = policy.item_leaves[items].tolist()
    return leaves


def target_leaves(share: float) -> set[int]:
    """The lower share of all targets."""
    leaves = sorted(set(leaves_of(tiny_policy(CATALOG))))
    return set(leaves[: round(share * len(leaves))])


def rollouts_of(
    algorithm: GRPO, policy: Policy | None = None, seed: int = 0, examples: Examples = EXAMPLES
) -> Rollouts:
    sizes: dict[str, Any] = {
        "group_size": GROUP_SIZE,
        "prompts_per_step": PROMPTS,
        "seed": seed,
    }
    policy = policy or tiny_policy(CATALOG)
    views = Views(policy, algorithm, Ledger(torch.device("cpu")), Workers())
    return Rollouts(views, examples, **sizes)


def rows_of(groups: Groups | None) -> list[tuple[int, ...]]:
    """What tells a group's prompt: its tokens, and its target."""
    assert groups is not None
    prompts = groups.prompts
    return [
        (*prompts.tokens[row][prompts.mask[row]].tolist(), int(groups.targets[row]))
        for row in range(len(prompts))
    ]


def expected_rows(policy: Policy, visits: list[int]) -> list[tuple[int, ...]]:
    """The same of some examples."""
    prompts = policy.prompt_format.encode(EXAMPLES, np.array(visits))
    leaves = leaves_of(policy)
    return [
        (*prompts.tokens[place][prompts.mask[place]].tolist(), leaves[row])
        for place, row in enumerate(visits)
    ]


@given(st.integers(1, 30), st.integers(1, 9), st.lists(st.integers(0, 12), min_size=1, max_size=8))
@settings(max_examples=60)
def test_visits_cut_anywhere_are_the_same_visits(count: int, batch: int, cuts: list[int]) -> None:
    whole = Sampler(count, batch, 4).visits(0, sum(cuts))
    sampler = Sampler(count, batch, 4)
    found: list[int] = []
    for cut in cuts:
        found += sampler.visits(len(found), cut).tolist()
    assert found == whole.tolist()
    assert Sampler(count, batch, 4).rows(0).tolist() == sampler.visits(0, batch).tolist()


def test_groups_come_apart_and_together_again() -> None:
    policy = tiny_policy(CATALOG)
    whole = rollouts_of(GRPO(GRPOHyperparameters(reward="rank")), policy).gather(0).groups
    assert whole is not None
    parts = [whole.select(torch.tensor(rows)) for rows in ([4], [0, 2], [1, 3, 5])]
    joined = join(parts)
    order = torch.tensor([4, 0, 2, 1, 3, 5])
    assert rows_of(joined) == [rows_of(whole)[row] for row in order.tolist()]
    assert torch.equal(joined.tree.leaves, whole.tree.leaves[order])
    assert torch.equal(joined.rewards, whole.rewards[order])
    log_probs = whole.tree.on_paths(whole.tree.log_probs)[order]
    assert torch.equal(joined.tree.on_paths(joined.tree.log_probs), log_probs)
    parents = whole.tree.on_paths(whole.tree.parents)[order]
    assert torch.equal(joined.tree.on_paths(joined.tree.parents), parents)


def test_prompts_padded_on_either_side_join() -> None:
    left = Prompts(torch.tensor([[0, 0, 7]]), torch.tensor([[False, False, True]]))
    right = Prompts(
        torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]),
        torch.tensor([[True, True, True, True], [True, True, False, False]]),
    )
    joined = Prompts.join([left, right])
    assert joined.tokens.shape == joined.mask.shape == (3, 4)
    rows = [joined.tokens[row][joined.mask[row]].tolist() for row in range(3)]
    assert rows == [[7], [1, 2, 3, 4], [5, 6]]


def test_without_refills_a_steps_rows_are_its_own() -> None:
    policy = tiny_policy(CATALOG)
    rollouts = rollouts_of(GRPO(GRPOHyperparameters()), policy)
    for index in (3, 0, 1):
        rollout = rollouts.gather(index)
        visits = Sampler(20, PROMPTS, 0).rows(index).tolist()
        assert rows_of(rollout.groups) == expected_rows(policy, visits)
        assert (rollout.size, rollout.drawn) == (PROMPTS, PROMPTS)
        assert rollout.places.tolist() == list(range(PROMPTS))
        assert "accepted" not in rollout.figures
    assert rollouts.refilled == 0


WHOLE = (1.0, PROMPTS)


@pytest.mark.parametrize(
    ("share", "parts"),
    [
        (0.9, [WHOLE] * 3),
        (0.5, [WHOLE] * 3),
        (0.3, [WHOLE] * 3),
        (0.5, [(0.5, 3), WHOLE, (0.01, 1), WHOLE]),
    ],
)
def test_what_is_rejected_is_replaced_by_the_next_prompts(
    share: float, parts: list[tuple[float, int]]
) -> None:
    """Walked through by hand: the accepted ones of the visits, until the batch is full.

    A part of a batch is filled in the same way, and the next step goes on behind it.
    """
    liked, policy = target_leaves(share), tiny_policy(CATALOG)
    rollouts = rollouts_of(Picky(liked, refills=50), policy)
    leaves = leaves_of(policy)
    visits = Sampler(20, PROMPTS, 0).visits(0, 500).tolist()
    at = 0
    for index, (part, wanted) in enumerate(parts):
        batch: list[int] = []
        start = at
        while len(batch) < wanted:
            batch += [visits[at]] if leaves[visits[at]] in liked else []
            at += 1
        rollout = rollouts.gather(index, part)
        assert rows_of(rollout.groups) == expected_rows(policy, batch)
        # The last prompt drawn is the last one that is needed: nothing accepted is thrown away.
        assert (rollout.size, rollout.drawn) == (wanted, at - start)
        assert rollout.part == wanted / PROMPTS
        assert rollout.places.tolist() == list(range(wanted))
        assert rollout.figures["accepted"] == wanted / (at - start)
        assert rollouts.refilled == at - (index + 1) * PROMPTS
    assert rollouts.refilled > 0 or len(parts) > 3


def test_a_batch_that_stays_short_is_what_it_is() -> None:
    liked, policy = target_leaves(0.3), tiny_policy(CATALOG)
    rollouts = rollouts_of(Picky(liked, refills=1), policy)
    leaves = leaves_of(policy)
    visits = Sampler(20, PROMPTS, 0).visits(0, 40).tolist()
    first = [row for row in visits[:PROMPTS] if leaves[row] in liked]
    drawn = 2 * PROMPTS - len(first)
    second = [row for row in visits[PROMPTS:drawn] if leaves[row] in liked]
    assert 0 < len(first) < len(first + second) < PROMPTS, "the seed makes it so"
    rollout = rollouts.gather(0)
    assert rows_of(rollout.groups) == expected_rows(policy, first + second)
    assert (rollout.size, rollout.drawn) == (len(first + second), drawn)
    # The next step begins where this one left off.
    following = rollouts.gather(1)
    after = [row for row in visits[drawn : drawn + PROMPTS] if leaves[row] in liked]
    assert rows_of(following.groups)[: len(after)] == expected_rows(policy, after)


def test_if_nothing_is_accepted_the_first_groups_are_learned_from() -> None:
    policy = tiny_policy(CATALOG)
    rollouts = rollouts_of(Picky(set(), refills=2), policy)
    rollout = rollouts.gather(0)
    visits = Sampler(20, PROMPTS, 0).rows(0).tolist()
    assert rows_of(rollout.groups) == expected_rows(policy, visits)
    assert (rollout.size, rollout.drawn, rollouts.refilled) == (PROMPTS, 3 * PROMPTS, 2 * PROMPTS)
    assert rollout.figures["accepted"] == 0 and rollout.places.tolist() == list(range(PROMPTS))


def test_curves_tell_of_all_that_was_rolled_out() -> None:
    """What an algorithm rejects would else look as if the policy had become better."""
    liked = target_leaves(0.5)
    found = rollouts_of(Picky(liked, refills=50)).gather(0)
    plain = rollouts_of(GRPO(GRPOHyperparameters(reward="rank")))
    groups, drawn = [], 0
    while drawn < found.drawn:
        part = plain.gather(drawn // PROMPTS).groups
        assert part is not None
        groups.append(part.select(torch.arange(min(PROMPTS, found.drawn - drawn))))
        drawn += len(groups[-1].targets)
    everything = join(groups)
    rewards = everything.rewards.mean(dim=1)
    assert found.figures["reward"] == pytest.approx(float(rewards.mean()), abs=1e-6)
    hits = everything.tree.hits(everything.targets).any(dim=1).float()
    assert found.figures[f"HR@{GROUP_SIZE}"] == pytest.approx(float(hits.mean()))


def drawing(examples: Examples, seed: int) -> Rollouts:
    """Six of them a step, or all there are; every group is kept."""
    algorithm = SRPO(SRPOHyperparameters(temperature=1.0, dynamic_sampling=False))
    return rollouts_of(algorithm, seed=seed, examples=examples)


def drawn_candidates(rollouts: Rollouts, index: int) -> dict[tuple[int, ...], list[int]]:
    """The candidates of a step by prompt."""
    groups = rollouts.gather(index).groups
    assert groups is not None
    return dict(zip(rows_of(groups), groups.tree.leaves.tolist(), strict=True))


def test_seed_and_visit_decide_what_is_drawn_and_the_global_generator_does_not() -> None:
    six = EXAMPLES.subset(np.arange(PROMPTS))
    torch.manual_seed(0)
    first = drawn_candidates(drawing(six, 0), 0)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    rollouts = drawing(six, 0)
    # Another epoch visits the same prompts and draws anew.
    second = drawn_candidates(rollouts, 1)
    assert drawn_candidates(rollouts, 0) == first
    assert first.keys() == second.keys() and first != second
    assert drawn_candidates(drawing(six, 1), 0) not in (first, second)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state), "and is left alone"


# A whole step


def stepper_of(
    algorithm: GRPO, examples: Examples = EXAMPLES, prompts: int = PROMPTS
) -> tuple[RolloutStepper, Watched, Ledger]:
    """One whose weights stand still."""
    made = rollout_stepper(algorithm, examples=examples, prompts=prompts)
    stepper, _, optimization, ledger = made
    optimization.still = True
    return stepper, optimization, ledger


@pytest.mark.parametrize("refills", [1, 50])
def test_a_step_learns_as_if_only_the_accepted_prompts_had_been_there(refills: int) -> None:
    """Gradients, loss and the cost of the update; what was rejected is paid for in the rollout."""
    liked = target_leaves(0.4)
    picky, its, ledger = stepper_of(Picky(liked, refills, beta=0.1))
    figures = picky.step(0, 0.0)
    rollout = rollouts_of(Picky(liked, refills)).gather(0)
    visits = Sampler(20, PROMPTS, 0).visits(0, rollout.drawn).tolist()
    leaves = leaves_of(tiny_policy(CATALOG))
    kept = np.array([row for row in visits if leaves[row] in liked])
    assert len(kept) == rollout.size and (len(kept) < PROMPTS) is (refills == 1)
    plain = GRPO(GRPOHyperparameters(reward="rank", beta=0.1))
    alone, expected, one_ledger = stepper_of(plain, EXAMPLES.subset(kept), len(kept))
    one = alone.step(0, 0.0)
    torch.testing.assert_close(its.seen[0], expected.seen[0], rtol=1e-4, atol=1e-7)
    assert figures["loss"] == pytest.approx(one["loss"], abs=1e-6)
    spent, least = ledger.spent, one_ledger.spent
    for phase in ("update", "reference"):
        assert spent[phase].tokens == least[phase].tokens > 0
    drawn, all_drawn, whole = stepper_of(plain, EXAMPLES.subset(np.array(visits)), len(visits))
    drawn.step(0, 0.0)
    assert spent["rollout"].tokens == whole.spent["rollout"].tokens
    assert figures["accepted"] == len(kept) / len(visits)


def test_if_nothing_is_accepted_the_step_is_taken_for_nothing() -> None:
    class Never(SRPO):
        """All groups are alike to it, and it rejects them."""

        def reward(self, seen: Seen) -> Tensor:
            return torch.zeros(seen.tree.valid.shape)

    for beta in (0.0, 0.1):
        parts: dict[str, Any] = {"residual": False, "bonus": False, "minibatches": 1}
        never = Never(SRPOHyperparameters(beta=beta, most_refills=1, **parts))
        stepper, its, ledger = stepper_of(never)
        figures = stepper.step(0, 0.0)
        assert figures["accepted"] == 0 and figures["zero_advantage"] == 1
        assert ("divergence" in figures) is (beta > 0)
        assert float(its.seen[0].abs().max()) == pytest.approx(0.0, abs=1e-6)
        assert stepper.state() == {"refilled": PROMPTS}


def test_no_part_is_empty_however_few_groups_there_are() -> None:
    liked = target_leaves(0.3)
    size = rollouts_of(Picky(liked, 1)).gather(0).size
    stepper, its, _ = stepper_of(Picky(liked, 1, minibatches=PROMPTS, updates_per_rollout=2))
    figures = stepper.step(0, 0.0)
    assert 0 < size < PROMPTS and len(its.seen) == 2 * size
    assert all(seen.any() for seen in its.seen)
    whole, expected, _ = stepper_of(Picky(liked, 1))
    one = whole.step(0, 0.0)
    torch.testing.assert_close(
        torch.stack(its.seen).mean(dim=0), expected.seen[0], rtol=1e-4, atol=1e-6
    )
    assert figures["loss"] == pytest.approx(one["loss"], abs=1e-6)


def test_a_stepper_that_takes_up_anothers_state_goes_on_like_it() -> None:
    liked = target_leaves(0.4)
    first, seen, _ = stepper_of(Picky(liked))
    for index in range(3):
        first.step(index, 0.0)
    state = first.state()
    assert state["refilled"] > 0
    expected = first.step(3, 0.0)
    second, also_seen, _ = stepper_of(Picky(liked))
    second.load(state)
    assert second.step(3, 0.0) == expected
    assert torch.equal(also_seen.seen[0], seen.seen[3])
    assert second.state() == first.state() != state
    lost, _, _ = stepper_of(Picky(liked))
    assert lost.step(3, 0.0) != expected, "without it the rows are others"


def test_bonus_and_dense_advantage_reach_the_gradient() -> None:
    """Switches of SRPO change what a step learns, and nothing of what it rolls out."""
    seen, spent = [], []
    variants: tuple[dict[str, Any], ...] = ({}, {"bonus": False}, {"power": 1.0})
    for values in variants:
        chosen = SRPO(SRPOHyperparameters(minibatches=1, k=2, temperature=2.0, **values))
        stepper, its, ledger = stepper_of(chosen)
        assert math.isfinite(stepper.step(0, 0.0)["loss"])
        seen.append(its.seen[0])
        spent.append(ledger.spent["rollout"].tokens)
    assert spent[0] == spent[1] == spent[2]
    assert not torch.allclose(seen[0], seen[1]) and not torch.allclose(seen[0], seen[2])
