"""Rollouts in a world: what a prompt's target is, whoever rolls it out and whenever."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from watched_steps import CATALOG, EXAMPLES, GROUP_SIZE, PROMPTS

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import tiny_policy
from genrec_bench.data.dataset import Examples
from genrec_bench.data.worlds import Purchases
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.rollouts import Rollouts, Sampler
from genrec_bench.training.views import Views
from genrec_bench.training.workers import Workers


class Fair:
    """A world in which all items are wanted alike."""

    feedback = "drawn"

    def utilities(self, examples: Examples) -> NDArray[np.float64]:
        """As a world says."""
        return np.full((len(examples), CATALOG.num_items), 1 / CATALOG.num_items)


class Share(Workers):
    """One of several processes, as far as it takes its part of a round."""

    def __init__(self, index: int, count: int) -> None:
        super().__init__()
        self.index, self.count = index, count


def test_purchases_take_the_place_of_logged_targets() -> None:
    policy = tiny_policy(CATALOG)
    purchases = Purchases(Fair(), EXAMPLES, 0)
    sizes: dict[str, Any] = {"group_size": GROUP_SIZE, "prompts_per_step": PROMPTS, "seed": 0}

    def rollouts(workers: Workers | None = None) -> Rollouts:
        ledger, grpo = Ledger(policy.device), GRPO(GRPOHyperparameters())
        views = Views(policy, grpo, ledger, workers or Workers())
        return Rollouts(views, EXAMPLES, purchases=purchases, **sizes)

    def bought(index: int) -> list[int]:
        start = index * PROMPTS
        visits = np.arange(start, start + PROMPTS)
        drawn = purchases(Sampler(len(EXAMPLES), PROMPTS, 0).rows(index), visits)
        leaves: list[int] = policy.item_leaves[torch.from_numpy(drawn)].tolist()
        return leaves

    whole = rollouts()
    for index in (0, 1, 7):
        groups = whole.gather(index).groups
        assert groups is not None
        assert groups.targets.tolist() == bought(index)
        # Rewards are those of the purchase.
        hits = (groups.tree.leaves == groups.targets.unsqueeze(1)).float()
        assert torch.equal(groups.rewards, hits)
    # The same prompt is met again, and another item is bought.
    assert any(bought(index) != bought(0) for index in (7, 14))
    # Each of two processes draws its own part of the same purchases.
    rows = Sampler(len(EXAMPLES), PROMPTS, 0).rows(7)
    found = [-1] * PROMPTS
    for index in range(2):
        mine, _ = rollouts(Share(index, 2))._judged(7 * PROMPTS, PROMPTS, rows[index::2])
        found[index::2] = mine.targets.tolist()
    assert found == bought(7)
