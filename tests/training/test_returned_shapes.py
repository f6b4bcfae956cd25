"""What an algorithm's methods return in other shapes than the contract's is told."""

from typing import Any

import numpy as np
import pytest
import torch
from watched_steps import CATALOG, EXAMPLES, GROUP_SIZE, PROMPTS, Watched, rollout_stepper

from genrec_bench.algorithm import Algorithm
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import tiny_policy
from genrec_bench.errors import UserError
from genrec_bench.training import evaluate
from genrec_bench.training.hyperparameters import Hyperparameters
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.supervised_steps import SupervisedStepper
from genrec_bench.training.workers import Workers


def changed(method: str, value: Any, **attributes: Any) -> GRPO:
    """GRPO with one method that returns something made of what it should return."""

    def wrong(self: GRPO, *given: Any) -> Any:
        return value(getattr(GRPO, method)(self, *given))

    kind = type("Mine", (GRPO,), {method: wrong, **attributes})
    algorithm = kind(GRPOHyperparameters(reward="rank"))
    assert isinstance(algorithm, GRPO)
    return algorithm


@pytest.mark.parametrize(
    ("method", "value", "attributes", "said"),
    [
        (
            "reward",
            lambda found: found.mean(1),
            {},
            f"returned [{PROMPTS}], and must return",
        ),
        (
            "reward",
            lambda found: found.tolist(),
            {},
            "returned a list, and must return [B, G]",
        ),
        ("reward", lambda found: found.T, {}, f"here [{PROMPTS}, {GROUP_SIZE}];"),
        (
            "accepts",
            lambda found: True,
            {"most_refills": 1},
            "returned a bool, and must",
        ),
        ("advantage", lambda found: found.mean(1), {}, "and must return [B, G] or [B, G, L], here"),
        ("advantage", lambda found: None, {}, "returned a NoneType, and must return [B, G] or"),
        ("loss", lambda found: found[0], {}, "returned a Tensor, and must return losses [B] and"),
        ("loss", lambda found: (found[0].sum(), {}), {}, "returned [], and must return a loss for"),
        ("loss", lambda found: (found[0], None), {}, "a dict of figures, which may be empty"),
    ],
)
def test_another_shape_is_named(
    method: str, value: Any, attributes: dict[str, Any], said: str
) -> None:
    stepper, *_ = rollout_stepper(changed(method, value, **attributes))
    with pytest.raises(UserError) as caught:
        stepper.step(0, 0.0)
    told = str(caught.value)
    assert told.startswith(f"Mine.{method} returned ") and said in told and "\n" not in told


def test_credit_of_codes_and_more_is_taken() -> None:
    for more in (3, 2):
        spread = changed("advantage", lambda found, n=more: found.unsqueeze(-1).expand(-1, -1, 3))
        stepper, *_ = rollout_stepper(spread)
        stepper.step(0, 0.0)


def test_a_loss_of_targets_is_one_number_a_target_or_a_code() -> None:
    def stepper(value: Any) -> SupervisedStepper:
        def target_loss(self: Algorithm, scores: Any) -> Any:
            return value(-scores.log_probs)

        kind = type("Mine", (Algorithm,), {"on_policy": False, "target_loss": target_loss})
        policy = tiny_policy(CATALOG)
        parts: tuple[Any, ...] = (EXAMPLES, Watched(policy), Ledger(torch.device("cpu")), Workers())
        algorithm = kind(Hyperparameters())
        return SupervisedStepper(
            policy, *parts, batch=4, seed=0, phase="update", algorithm=algorithm
        )

    of_codes = stepper(lambda losses: losses).step(0, 0.0)
    of_targets = stepper(lambda losses: losses.sum(1)).step(0, 0.0)
    assert of_codes == pytest.approx(of_targets)
    with pytest.raises(UserError, match=r"^Mine.target_loss returned \[\], and must return \[T\]"):
        stepper(lambda losses: losses.mean()).step(0, 0.0)


def test_a_score_for_each_candidate_is_asked_for() -> None:
    policy = tiny_policy(CATALOG)
    prompts = policy.prompt_format.encode(EXAMPLES, np.arange(3))
    for value in (lambda scores: scores.log_probs, lambda scores: scores.log_probs.sum((1, 2))):

        def rerank(self: Algorithm, tree: Any, scores: Any, value: Any = value) -> Any:
            return value(scores)

        kind = type("Mine", (Algorithm,), {"reranks": True, "rerank": rerank})
        with pytest.raises(UserError, match=r"^Mine.rerank returned .* for each candidate, \[B, W"):
            evaluate.ranked_leaves(policy, prompts, 4, kind(Hyperparameters()))
