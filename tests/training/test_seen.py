"""What algorithms are shown of their groups, what that costs, and that it is asked once."""

from typing import Any

import numpy as np
import pytest
import torch
from small_trees import group_of
from torch import Tensor
from watched_steps import CATALOG, EXAMPLES, GROUP_SIZE, PROMPTS, Watched, rollout_stepper

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import tiny_policy
from genrec_bench.policy.scoring import Scores, score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.groups import Batch, Seen
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.workers import Workers


class Curious(GRPO):
    """Looks at everything, and keeps what it saw."""

    scores_targets = True
    most_refills = 1

    def __init__(self, **values: Any) -> None:
        super().__init__(GRPOHyperparameters(reward="rank", beta=0.1, **values))
        self.looked: list[dict[str, Any]] = []
        self.batches: list[Batch] = []

    def look(self, seen: Seen) -> None:
        self.looked.append(
            {
                "histories": seen.prompts.histories,
                "reference": seen.reference_log_probs,
                "of_target": seen.reference_target_log_probs,
                "paths": seen.read(lambda scores: scores.log_probs),
                "nodes": seen.read(lambda scores: scores.node_log_probs),
                "at": (seen.step, seen.share),
                "tree": seen.tree,
                "sum": seen.sum(torch.ones(2, 3)),
            }
        )

    def reward(self, seen: Seen) -> Tensor:
        self.look(seen)
        return super().reward(seen)

    def accepts(self, seen: Seen, rewards: Tensor) -> Tensor:
        return seen.targets % 2 == 0

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        self.look(seen)
        return super().advantage(seen, rewards)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        self.batches.append(batch)
        assert scores.target_log_probs is not None
        losses, figures = super().loss(batch, scores)
        return losses - scores.target_log_probs.sum(dim=1), figures


def test_what_is_seen_is_what_the_policies_say_of_these_groups() -> None:
    curious = Curious()
    stepper, policy, watched, ledger = rollout_stepper(curious, tokens_per_forward=40)
    watched.still = True
    stepper.step(3, 0.25)
    assert len(curious.looked) >= 2
    for seen in curious.looked:
        # At first the reference is the policy.
        torch.testing.assert_close(seen["reference"], seen["paths"], rtol=1e-4, atol=1e-5)
        tree = seen["tree"]
        assert seen["nodes"].shape == tree.states.shape
        kept = tree.log_probs
        torch.testing.assert_close(seen["nodes"], kept, rtol=1e-4, atol=1e-5)
        assert seen["at"] == (3, 0.25) and seen["sum"].eq(1).all()
        for row in seen["histories"].tolist():
            items = [item for item in row if item >= 0]
            assert items in [EXAMPLES.history(i).tolist() for i in range(len(EXAMPLES))]
    assert ledger.spent["value"].tokens > 0


def test_the_reference_is_asked_once_whoever_asks() -> None:
    first = Curious()
    stepper, _, _, ledger = rollout_stepper(first)
    stepper.step(0, 0.0)
    kept = sum(len(batch.targets) for batch in first.batches)

    class Incurious(Curious):
        def look(self, seen: Seen) -> None:
            pass

    second = Incurious()
    other, _, _, its_ledger = rollout_stepper(second)
    other.step(0, 0.0)
    assert kept == sum(len(batch.targets) for batch in second.batches)
    for one, two in zip(first.batches, second.batches, strict=True):
        assert one.reference_log_probs is not None and two.reference_log_probs is not None
        torch.testing.assert_close(one.reference_log_probs, two.reference_log_probs)
    # One that looks at groups before it rejects them pays for those too, but for none twice.
    drawn = sum(len(seen["histories"]) for seen in first.looked[:-1])
    share = ledger.spent["reference"].tokens / its_ledger.spent["reference"].tokens
    assert share == pytest.approx(drawn / kept, rel=0.35)


@pytest.mark.parametrize("passes", [1, 2])
def test_the_batch_has_the_targets_under_the_policy_that_rolled_out(passes: int) -> None:
    curious = Curious(updates_per_rollout=passes)
    stepper, policy, _, ledger = rollout_stepper(curious)
    before = tiny_policy(CATALOG)
    stepper.step(0, 0.0)
    for batch in curious.batches:
        at_start = score(before, batch.prompts, batch.tree, targets=batch.targets)
        assert batch.target_log_probs is not None and not batch.target_log_probs.requires_grad
        torch.testing.assert_close(
            batch.target_log_probs, at_start.target_log_probs, rtol=1e-4, atol=1e-5
        )
        # The reference is the start, too.
        torch.testing.assert_close(
            batch.reference_target_log_probs, at_start.target_log_probs, rtol=1e-4, atol=1e-5
        )
    assert len(curious.batches) == passes


def test_without_a_reference_or_targets_their_words_are_refused() -> None:
    class Asks(GRPO):
        def reward(self, seen: Seen) -> Tensor:
            with pytest.raises(ValueError, match="uses_reference is False"):
                _ = seen.reference_log_probs
            with pytest.raises(ValueError, match="uses_reference and scores_targets"):
                _ = seen.reference_target_log_probs
            return super().reward(seen)

    stepper, *_ = rollout_stepper(Asks(GRPOHyperparameters()))
    stepper.step(0, 0.0)
    with pytest.raises(ValueError, match="only candidates and targets"):
        _ = Seen.bare(*group_of([0.4, 0.3], hit=1)).policy


def anchored(anchor: float, beta: float = 0.0) -> tuple[dict[str, float], Tensor, Ledger]:
    algorithm = GRPO(GRPOHyperparameters(reward="rank", beta=beta))
    policy = tiny_policy(CATALOG)
    ledger = policy.meter = Ledger(torch.device("cpu"))
    watched = Watched(policy)
    sizes: dict[str, Any] = {"group_size": GROUP_SIZE, "prompts_per_step": PROMPTS, "seed": 0}
    stepper = RolloutStepper(
        policy, algorithm, EXAMPLES, watched, ledger, Workers(), anchor=anchor, **sizes
    )
    figures = stepper.step(0, 0.0)
    return figures, watched.seen[0], ledger


def test_the_anchor_adds_the_gradient_of_the_targets_likelihood() -> None:
    plain, without, free = anchored(0.0)
    figures, gradient, ledger = anchored(0.5)
    assert "target_nll" not in plain
    policy = tiny_policy(CATALOG)
    rows = np.random.default_rng([0, 0]).permutation(len(EXAMPLES))[:PROMPTS]
    prompts = policy.prompt_format.encode(EXAMPLES, rows)
    targets = policy.item_leaves[torch.from_numpy(EXAMPLES.targets[rows].astype(np.int64))]
    tree = CandidateTree.build(policy.trie, targets.unsqueeze(1), torch.zeros(PROMPTS, 1, 3))
    loss = -score(policy, prompts, tree).log_probs.sum() / PROMPTS
    assert figures["target_nll"] == pytest.approx(loss.item(), rel=1e-5)
    assert figures["loss"] == pytest.approx(plain["loss"] + 0.5 * loss.item(), rel=1e-5)
    loss.backward()
    grads = [p.grad for p in policy.parameters() if p.grad is not None]
    of_targets = torch.cat([grad.flatten().double() for grad in grads])
    torch.testing.assert_close(gradient, without + 0.5 * of_targets, rtol=1e-3, atol=1e-6)
    # It takes no second pass, and nothing but the update costs more.
    assert ledger.spent["rollout"].tokens == free.spent["rollout"].tokens
    assert 1 < ledger.spent["update"].tokens / free.spent["update"].tokens < 1.3
