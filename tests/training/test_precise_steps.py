"""Steps with passes in 16 bits: they move weights as others do, and begin on policy."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from watched_steps import CATALOG, EXAMPLES, GROUP_SIZE, PROMPTS

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import tiny_policy
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.precision import Precision
from genrec_bench.policy.scoring import Scores
from genrec_bench.training.groups import Batch
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.supervised_steps import Stepper, SupervisedStepper
from genrec_bench.training.workers import Workers


class Ratios(GRPO):
    """GRPO, with the ratios that its loss sees, update by update."""

    def __init__(self, **texts: str) -> None:
        super().__init__(from_words(GRPOHyperparameters, texts))
        self.seen: list[Tensor] = []

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        old = batch.tree.on_paths(batch.tree.log_probs)
        self.seen.append((scores.log_probs.detach() - old).exp()[batch.tree.valid])
        return super().loss(batch, scores)


def stepper_of(
    kind: str, precision: Precision, rate: float, algorithm: GRPO | None = None
) -> tuple[Policy, Stepper]:
    policy = tiny_policy(CATALOG)
    policy.precision = precision
    ledger = policy.meter = Ledger(torch.device("cpu"))
    workers = Workers()
    optimization = Optimization(
        policy, workers, learning_rate=rate, weight_decay=0.01, warmup=0.03, max_grad_norm=1.0
    )
    parts: tuple[Any, ...] = (EXAMPLES, optimization, ledger, workers)
    sizes: dict[str, Any] = {"batch": 12, "seed": 0}
    if kind == "sft":
        return policy, SupervisedStepper(policy, *parts, phase="update", **sizes)
    sizes = {"group_size": GROUP_SIZE, "prompts_per_step": PROMPTS, "seed": 0}
    return policy, RolloutStepper(policy, algorithm or Ratios(reward="rank"), *parts, **sizes)


@pytest.fixture(scope="module")
def learned() -> dict[str, Tensor]:
    """Weights after some SFT: in 16 random dimensions there is little but noise to learn from."""
    policy, stepper = stepper_of("sft", "fp32", 0.01)
    for index in range(40):
        stepper.step(index, 0.5)
    return policy.state_dict()


def moved(kind: str, precision: Precision, learned: dict[str, Tensor]) -> Tensor:
    policy, stepper = stepper_of(kind, precision, 2e-6)
    policy.load_state_dict(learned)
    start = [p.detach().clone() for p in policy.parameters()]
    for index in range(20):
        stepper.step(index, index / 20)
    pairs = zip(policy.parameters(), start, strict=True)
    return torch.cat([(now.detach() - then).flatten().double() for now, then in pairs])


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_mixed_passes_move_the_weights_as_passes_in_32_bits_do(
    kind: str, learned: dict[str, Tensor]
) -> None:
    exact, mixed = (moved(kind, precision, learned) for precision in ("fp32", "bf16-mixed"))
    assert float((exact != 0).double().mean()) > 0.95, "small as they are, steps are not lost"
    assert not torch.equal(exact, mixed)
    assert float(cosine_similarity(exact, mixed, dim=0)) >= 0.98
    assert float(mixed.norm() / exact.norm()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("updates", "parts"), [(1, 1), (2, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
def test_the_first_update_is_on_policy(precision: Precision, updates: int, parts: int) -> None:
    texts = {"updates_per_rollout": str(updates), "minibatches": str(parts)}
    algorithm = Ratios(**texts)
    # A rate of next to nothing: what differs in later updates is rounding too.
    _, stepper = stepper_of("grpo", precision, 1e-12, algorithm)
    stepper.step(0, 0.0)
    assert len(algorithm.seen) == updates * parts
    first, every = (algorithm.seen[0] - 1).abs(), (torch.cat(algorithm.seen) - 1).abs()
    assert float(first.max()) <= {"fp32": 1e-5, "bf16-mixed": 1e-3}[precision]
    assert float(first.mean()) <= {"fp32": 1e-6, "bf16-mixed": 1e-3}[precision]
    assert float(every.mean()) <= {"fp32": 1e-6, "bf16-mixed": 1e-3}[precision]


def test_only_updates_after_the_first_need_a_pass_of_their_own() -> None:
    spent = {}
    for precision in ("fp32", "bf16-mixed"):
        for updates in ("1", "2"):
            policy, stepper = stepper_of(
                "grpo", precision, 1e-12, Ratios(updates_per_rollout=updates)
            )
            stepper.step(0, 0.0)
            assert isinstance(policy.meter, Ledger)
            costs = policy.meter.spent
            spent[precision, updates] = costs["rollout"].tokens, costs["update"].tokens
    assert spent["fp32", "1"] == spent["bf16-mixed", "1"]
    # What is computed is charged.
    more = spent["bf16-mixed", "2"][0] - spent["bf16-mixed", "1"][0]
    assert more == spent["bf16-mixed", "1"][1] and spent["fp32", "2"][0] == spent["fp32", "1"][0]
