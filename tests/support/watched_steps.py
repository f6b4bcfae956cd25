"""Steps in a tiny world, with the gradients that they take."""

from typing import Any

import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.data.dataset import Examples
from genrec_bench.policy.adapters import add_adapters
from genrec_bench.policy.policy import Policy
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.workers import Workers

GROUP_SIZE = 4
PROMPTS = 6
CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG, num_examples=20, seed=3)


class Watched(Optimization):
    """Keeps the gradients of every step, and takes steps unless told to stand still."""

    still = False

    def __init__(self, policy: Policy) -> None:
        super().__init__(
            policy, Workers(), learning_rate=0.01, weight_decay=0.0, warmup=0.0, max_grad_norm=1.0
        )
        self.seen: list[Tensor] = []

    def step(self, share: float, loss: float, where: str) -> float:
        grads = [p.grad for p in self.parameters if p.grad is not None]
        self.seen.append(torch.cat([grad.flatten().double() for grad in grads]))
        if not self.still:
            return super().step(share, loss, where)
        self.optimizer.zero_grad(set_to_none=True)
        return 0.0


def rollout_stepper(
    algorithm: Algorithm,
    tokens_per_forward: int = 4096,
    seed: int = 0,
    examples: Examples = EXAMPLES,
    prompts: int = PROMPTS,
    rank: int = 0,
) -> tuple[RolloutStepper, Policy, Watched, Ledger]:
    policy = tiny_policy(CATALOG, extra_tokens=algorithm.tokens)
    policy.tokens_per_forward = tokens_per_forward
    add_adapters(policy, rank)
    ledger = policy.meter = Ledger(torch.device("cpu"))
    optimization, workers = Watched(policy), Workers()
    sizes: dict[str, Any] = {"group_size": GROUP_SIZE, "prompts_per_step": prompts, "seed": seed}
    stepper = RolloutStepper(policy, algorithm, examples, optimization, ledger, workers, **sizes)
    return stepper, policy, optimization, ledger
