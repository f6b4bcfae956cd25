"""Steps: which rows, how gradients add up, what is metered, what an algorithm's choices do."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from watched_steps import CATALOG, EXAMPLES, GROUP_SIZE, PROMPTS, Watched, rollout_stepper

from genrec_bench.algorithm import Algorithm
from genrec_bench.algorithms.grpo import GRPO
from genrec_bench.algorithms.ugr import UGR
from genrec_bench.contract.tiny_world import tiny_policy
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.scoring import Scores, score
from genrec_bench.training import steps
from genrec_bench.training.groups import Seen
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import NotFiniteError
from genrec_bench.training.rollouts import Sampler
from genrec_bench.training.supervised_steps import SupervisedStepper
from genrec_bench.training.workers import Workers


def algorithm_of(kind: type[Algorithm], **texts: str) -> Algorithm:
    return kind(from_words(kind.hyperparameters_class, texts))


def snapshot(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in policy.state_dict().items()}


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=60)
def test_a_sampler_visits_every_row_once_an_epoch(count: int, batch: int, seed: int) -> None:
    sampler = Sampler(count, batch, seed)
    steps = -(-3 * count // batch)
    rows = np.concatenate([sampler.rows(index) for index in range(steps)])
    for epoch in range(3):
        assert sorted(rows[epoch * count : (epoch + 1) * count]) == list(range(count))
    # Asked in another order, as after a resumption, it says the same.
    again = Sampler(count, batch, seed)
    for index in reversed(range(steps)):
        assert np.array_equal(again.rows(index), rows[index * batch : (index + 1) * batch])


@given(st.integers(1, 30), st.integers(1, 40), st.floats(0.001, 1.0))
@settings(max_examples=60)
def test_a_part_of_a_batch_is_its_first_rows(count: int, batch: int, part: float) -> None:
    sampler = Sampler(count, batch, 0)
    rows = sampler.rows(2, part)
    assert rows.tolist() == sampler.rows(2)[: len(rows)].tolist()
    assert len(rows) >= 1 and (len(rows) == 1 or abs(len(rows) - part * batch) <= 0.5)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first = Sampler(50, 50, 0)
    assert not np.array_equal(first.rows(0), first.rows(1))
    assert not np.array_equal(first.rows(0), Sampler(50, 50, 1).rows(0))


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (GRPO, {}),
        (GRPO, {"reward": "rule+rank", "beta": "0.5", "updates_per_rollout": "2"}),
        (GRPO, {"reward": "rank", "minibatches": "2"}),
        (UGR, {"without_hit": "true"}),
        (UGR, {"gamma_partial": "0.7", "confidence": "true"}),
        (UGR, {"difficulty": "false", "confidence": "false"}),
    ],
)
def test_how_many_tokens_go_through_at_once_changes_nothing(
    kind: type[Algorithm], texts: dict[str, str]
) -> None:
    found = []
    for tokens in (64, 100_000):
        stepper, policy, optimization, ledger = rollout_stepper(algorithm_of(kind, **texts), tokens)
        figures = [stepper.step(index, 0.0) for index in range(2)]
        found.append((figures, optimization.seen, ledger.total("tokens"), snapshot(policy)))
    (few, few_grads, few_tokens, few_weights), (many, many_grads, many_tokens, many_weights) = found
    assert len(few_grads) == len(many_grads) > 0
    for grads, expected in zip(few_grads, many_grads, strict=True):
        assert torch.nn.functional.cosine_similarity(grads, expected, dim=0) >= 0.99999
        largest = float(expected.abs().max())
        torch.testing.assert_close(grads, expected, rtol=1e-3, atol=1e-5 * largest)
    for one, other in zip(few, many, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert few_tokens == many_tokens
    for name, value in few_weights.items():
        torch.testing.assert_close(value, many_weights[name], rtol=1e-3, atol=1e-3)


def test_many_forward_passes_are_really_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Scores:
        calls.append(1)
        return score(*arguments, **options)

    monkeypatch.setattr(steps, "score", counted)
    for tokens, least, most in ((64, 2, PROMPTS), (100_000, 1, 1)):
        calls.clear()
        rollout_stepper(algorithm_of(GRPO), tokens)[0].step(0, 0.0)
        assert least <= len(calls) <= most


def supervised(tokens_per_forward: int) -> tuple[dict[str, float], torch.Tensor]:
    policy = tiny_policy(CATALOG)
    policy.tokens_per_forward = tokens_per_forward
    optimization, ledger = Watched(policy), Ledger(torch.device("cpu"))
    sizes: dict[str, Any] = {"batch": 12, "seed": 0, "phase": "sft"}
    stepper = SupervisedStepper(policy, EXAMPLES, optimization, ledger, Workers(), **sizes)
    return stepper.step(0, 0.0), optimization.seen[0]


def test_supervised_gradients_add_up_too() -> None:
    (few, few_grads), (many, many_grads) = supervised(12), supervised(100_000)
    assert torch.nn.functional.cosine_similarity(few_grads, many_grads, dim=0) >= 0.99999
    torch.testing.assert_close(few_grads, many_grads, rtol=1e-3, atol=1e-6)
    assert few == pytest.approx(many, rel=1e-4)


def test_a_step_meters_rollout_and_update_and_nothing_else() -> None:
    stepper, _, _, ledger = rollout_stepper(algorithm_of(UGR))
    stepper.step(0, 0.0)
    spent = ledger.spent
    assert sorted(spent) == ["rollout", "update"]
    assert all(cost.tokens > 0 and cost.flops > 0 for cost in spent.values())
    # An update reads a rollout's prompts and prefixes once, forward and backward.
    per_token = {name: cost.flops / cost.tokens for name, cost in spent.items()}
    assert 2.0 < per_token["update"] / per_token["rollout"] < 4.5


def test_the_reference_is_metered_and_only_where_it_is_used() -> None:
    stepper, _, _, ledger = rollout_stepper(algorithm_of(GRPO, beta="0.1"))
    stepper.step(0, 0.0)
    assert ledger.spent["reference"].tokens > 0
    assert set(stepper.modules()) == {"policy", "reference"}
    stepper, _, _, ledger = rollout_stepper(algorithm_of(GRPO))
    stepper.step(0, 0.0)
    assert "reference" not in ledger.spent and set(stepper.modules()) == {"policy"}


def reference_distances(**texts: str) -> tuple[float, float]:
    """How far the reference is from the start and from the policy after two steps."""
    stepper, policy, _, _ = rollout_stepper(algorithm_of(GRPO, beta="0.1", **texts))
    start = snapshot(policy)
    for index in range(2):
        stepper.step(index, 0.0)
    reference = dict(stepper.modules()["reference"].named_parameters())
    now = snapshot(policy)
    moved = sum(float((reference[name] - start[name]).abs().sum()) for name in reference)
    apart = sum(float((reference[name] - now[name]).abs().sum()) for name in reference)
    assert not any(parameter.requires_grad for parameter in reference.values())
    return moved, apart


def test_a_reference_stays_or_follows() -> None:
    moved, apart = reference_distances()
    assert moved == 0 and apart > 0
    moved, apart = reference_distances(sync_every="1", sync_mix="1.0")
    assert moved > 0 and apart == 0
    # The third step would be the first to mix.
    assert reference_distances(sync_every="3", sync_mix="1.0")[0] == 0


def test_the_divergence_starts_at_zero_and_grows() -> None:
    stepper, _, _, _ = rollout_stepper(algorithm_of(GRPO, beta="0.1", reward="random"))
    first, second = (stepper.step(index, 0.0)["divergence"] for index in range(2))
    assert first == pytest.approx(0.0, abs=1e-6) and second > 1e-6


@pytest.mark.parametrize(("updates", "parts"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_every_update_of_every_part_takes_an_optimizer_step(updates: int, parts: int) -> None:
    texts = {"updates_per_rollout": str(updates), "minibatches": str(parts)}
    stepper, _, optimization, ledger = rollout_stepper(algorithm_of(GRPO, **texts))
    stepper.step(0, 0.0)
    assert len(optimization.seen) == updates * parts
    one, _, _, once = rollout_stepper(algorithm_of(GRPO))
    one.step(0, 0.0)
    spent, least = ledger.spent, once.spent
    assert spent["rollout"].tokens == least["rollout"].tokens
    assert spent["update"].tokens == updates * least["update"].tokens


def test_parts_cut_the_batch_without_loss() -> None:
    """With the weights held still, the parts' gradients average to that of the whole."""
    grads = {}
    for parts in ("1", "3"):
        stepper, _, optimization, _ = rollout_stepper(algorithm_of(GRPO, minibatches=parts))
        optimization.still = True
        stepper.step(0, 0.0)
        grads[parts] = torch.stack(optimization.seen)
    torch.testing.assert_close(grads["3"].mean(dim=0), grads["1"][0], rtol=1e-4, atol=1e-6)


def test_one_seed_gives_one_run() -> None:
    runs: dict[int, list[Any]] = {0: [], 1: []}
    for seed in (0, 0, 1):
        stepper, policy, _, _ = rollout_stepper(algorithm_of(UGR), seed=seed)
        figures = [stepper.step(index, 0.0) for index in range(2)]
        runs[seed].append((figures, snapshot(policy)))
    (one, one_weights), (other, other_weights) = runs[0]
    assert one == other
    assert all(torch.equal(one_weights[name], other_weights[name]) for name in one_weights)
    assert runs[1][0][0] != one


def test_the_curves_of_the_paper() -> None:
    stepper, _, _, _ = rollout_stepper(algorithm_of(UGR))
    figures = stepper.step(0, 0.0)
    assert {"reward", "HR@1", f"HR@{GROUP_SIZE}", "unique_candidates"} <= figures.keys()
    assert 0 <= figures["HR@1"] <= figures[f"HR@{GROUP_SIZE}"] <= 1
    assert figures["unique_candidates"] == GROUP_SIZE, "a beam holds no candidate twice"


class Broken(GRPO):
    """Its loss has no value."""

    def loss(self, *arguments: Any) -> Any:
        losses, figures = super().loss(*arguments)
        return losses * torch.nan, figures


def test_a_loss_without_a_value_leaves_the_weights_alone() -> None:
    stepper, policy, optimization, _ = rollout_stepper(algorithm_of(Broken))
    before = snapshot(policy)
    with pytest.raises(NotFiniteError, match=r"^step 8: the loss is nan"):
        stepper.step(7, 0.0)
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    assert all(parameter.grad is None for parameter in optimization.parameters)


class Idle(GRPO):
    """Finds nothing worth learning."""

    def reward(self, seen: Seen) -> torch.Tensor:
        return torch.zeros_like(super().reward(seen))


def test_groups_without_advantage_are_counted_and_move_nothing() -> None:
    stepper, policy, _, _ = rollout_stepper(algorithm_of(Idle))
    before = snapshot(policy)
    figures = stepper.step(0, 0.0)
    assert figures["zero_advantage"] == 1.0 and figures["gradient_norm"] == 0.0
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
