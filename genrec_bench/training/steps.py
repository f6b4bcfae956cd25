"""One step of training on a rollout. What an algorithm changes is in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec_bench.data.dataset import Examples
from genrec_bench.data.worlds import Purchases
from genrec_bench.decoding.beam import chunks
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.scoring import packed_sizes, score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.groups import Batch, Groups
from genrec_bench.training.kept_weights import KeptStart
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.out_of_memory import forget, in_smaller_passes
from genrec_bench.training.returned_shapes import loss_of, shaped
from genrec_bench.training.rollouts import Rollout, Rollouts
from genrec_bench.training.supervised_steps import OfAlgorithm, SupervisedStepper
from genrec_bench.training.views import Views
from genrec_bench.training.workers import Workers


class RolloutStepper(OfAlgorithm):
    """Rolls out, rewards, and updates: what on-policy algorithms do in a step."""

    def __init__(
        self,
        policy: Policy,
        algorithm: Algorithm,
        examples: Examples,
        optimization: Optimization,
        ledger: Ledger,
        workers: Workers,
        *,
        group_size: int,
        prompts_per_step: int,
        seed: int,
        embeddings: Tensor | None = None,
        purchases: Purchases | None = None,
        anchor: float = 0.0,
        sft_batch: int | None = None,
        sft_targets: int = 1,
    ) -> None:
        """Prepare; an algorithm that wants a reference policy gets the start.

        ``anchor`` is the weight of the targets' negative log-likelihood beside its loss;
        ``sft_batch`` are the sequences of a step without a rollout, by default as many as prompts,
        and ``sft_targets`` most targets of those of windows.
        """
        self.batch = prompts_per_step
        self._policy = policy
        self._algorithm = algorithm
        self._examples = examples
        self._optimization = optimization
        self._ledger = ledger
        self._workers = workers
        # Made when a step asks for it: most algorithms have no such step.
        self._supervised: Callable[[], SupervisedStepper] = cache(
            lambda: SupervisedStepper(
                policy,
                examples,
                optimization,
                ledger,
                workers,
                batch=sft_batch or prompts_per_step,
                seed=seed,
                phase="update",
                algorithm=algorithm,
                targets=sft_targets,
            )
        )
        self._reference = KeptStart(policy) if algorithm.uses_reference else None
        self._opponent = KeptStart(policy) if algorithm.uses_opponent else None
        self._views = Views(policy, algorithm, ledger, workers, self._reference, embeddings)
        self._rollouts = Rollouts(
            self._views,
            examples,
            group_size=group_size,
            prompts_per_step=prompts_per_step,
            seed=seed,
            purchases=purchases,
            opponent=self._opponent,
        )
        self._seed = seed
        self._embeddings = embeddings
        self._anchor = anchor

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the policy, and those copies of it that the algorithm uses."""
        copies = {"reference": self._reference, "opponent": self._opponent}
        there = {name: kept.module for name, kept in copies.items() if kept is not None}
        return {"policy": self._policy, **there}

    def state(self) -> dict[str, int]:
        """Return how many prompts refills have taken, which moves all later steps on."""
        return {"refilled": self._rollouts.refilled}

    def load(self, state: Mapping[str, int]) -> None:
        """Go on at the prompt that was next."""
        self._rollouts.refilled = state["refilled"]

    def step(self, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        """Learn from one rollout, or from targets alone where the algorithm says so."""
        policy, algorithm, ledger = self._policy, self._algorithm, self._ledger
        algorithm.begin_step(index, share)
        if not algorithm.rolls_out:
            figures = self._supervised().learn(index, share, part)
            self._move_copies(index)
            return {**figures, "supervised": 1.0}
        self._views.step, self._views.share = index, share
        heads_only = not algorithm.trains_backbone
        # Without dropout, the policy that is trained is the one that rolled out.
        policy.eval()
        with torch.no_grad(), ledger.phase(self._phase("rollout")):
            rollout = self._rollouts.gather(index, part)
        with self._views.together():
            batch = None if rollout.groups is None else self._batch(rollout.groups)
        idle = 0.0
        if batch is not None:
            credit = batch.advantages
            credit = credit if credit.dim() < 4 else credit[..., 0]
            idle = float((credit.flatten(1) == 0).all(dim=1).sum())
        (idle,) = self._workers.sum([idle])
        sums: dict[str, float] = {}
        norm = loss = 0.0
        updates = 0
        later = self._for_later_updates(batch)
        for update in range(algorithm.updates_per_rollout):
            for places in self._minibatches(index, update, rollout.size):
                learned = later if updates else batch
                accumulate = partial(
                    self._accumulate, rollout, learned, places, on_policy=not updates
                )
                own_loss, own = in_smaller_passes(policy, accumulate, partial(forget, policy))
                for name, value in own.items():
                    sums[name] = sums.get(name, 0.0) + value
                with ledger.phase(self._phase("update")):
                    (own_loss,) = self._workers.sum([own_loss])
                    norm += self._optimization.step(share, own_loss, f"step {index + 1}")
                loss += own_loss
                updates += 1
        totals = self._workers.sum_named(sums)
        figures = {"part": rollout.part, **rollout.figures, "zero_advantage": idle / rollout.size}
        figures |= {name: total / updates for name, total in totals.items()}
        figures |= {"loss": loss / updates, "gradient_norm": norm / updates}
        if heads_only:
            # The reference has nothing to follow.
            return {**figures, "heads_only": 1.0}
        self._move_copies(index)
        return figures

    def _move_copies(self, index: int) -> None:
        """Mix the policy into reference and opponent, as the algorithm says."""
        algorithm, step = self._algorithm, index + 1
        for kept, asked, phase in (
            (self._reference, algorithm.reference_mix, "reference"),
            (self._opponent, algorithm.opponent_mix, "rollout"),
        ):
            if kept is not None and (mix := asked(step)):
                with self._ledger.phase(phase):
                    kept.follow(self._policy, mix)

    def _phase(self, name: str) -> str:
        """Return what pays for a part of the step that has begun."""
        return name if self._algorithm.trains_backbone else "value"

    def _batch(self, groups: Groups) -> Batch:
        """Give credit to the groups that are learned from, and ask the reference about them."""
        algorithm, prompts, targets = self._algorithm, groups.prompts, groups.targets
        seen = self._views.seen(prompts, groups.tree, targets, groups.reference)
        with torch.no_grad(), self._ledger.phase(self._phase("rollout")):
            advantages = self._credit(algorithm.advantage(seen, groups.rewards), groups.tree)
        said = seen.reference if algorithm.trains_backbone else None
        behavior = None
        if algorithm.scores_targets and algorithm.updates_per_rollout * algorithm.minibatches > 1:
            # With one step the loss's own pass says it: the policy is still the behavior policy.
            behavior = self._views.target_log_probs(prompts, targets)
        return Batch(
            prompts,
            groups.tree,
            targets,
            groups.rewards,
            advantages,
            None if said is None else said.log_probs,
            self._embeddings,
            behavior,
            reference_target_log_probs=None if said is None else said.target_log_probs,
        )

    def _credit(self, said: object, tree: CandidateTree) -> Tensor:
        """Return what ``advantage`` returned, if it is credit for candidates."""
        shapes: list[tuple[int, ...]] = [tuple(tree.valid.shape), tuple(tree.paths.shape)]
        if isinstance(said, Tensor) and said.dim() == 4 and said.shape[-1]:
            shapes.append((*tree.paths.shape, said.shape[-1]))
        return shaped(self._algorithm, "advantage", said, "[B, G] or [B, G, L]", *shapes)

    def _for_later_updates(self, batch: Batch | None) -> Batch | None:
        """Return what updates learn from after the first, when the policy is another.

        Where passes round to 16 bits, a rollout's and an update's differ by more than a ratio of
        probabilities may be wrong by. So losses see the behavior policy as an update reads it: the
        first update by its own pass, later ones by a pass made for them before.
        """
        algorithm, policy = self._algorithm, self._policy
        once = algorithm.updates_per_rollout * algorithm.minibatches == 1
        if batch is None or once or not self._rereads:
            return batch
        with torch.no_grad(), self._ledger.phase(self._phase("rollout")):
            found, _ = self._views.node_log_probs(policy, batch.prompts, batch.tree)
        return replace(batch, tree=replace(batch.tree, log_probs=found))

    @property
    def _rereads(self) -> bool:
        """Whether the behavior policy is this one, and rounds to 16 bits."""
        algorithm = self._algorithm
        behaves = algorithm.rates_candidates and not algorithm.uses_opponent
        return behaves and self._policy.precision != "fp32"

    def _minibatches(self, index: int, update: int, size: int) -> list[NDArray[np.int64]]:
        """Cut the places of a batch of all processes into parts, none of them empty."""
        count = min(self._algorithm.minibatches, size)
        if count == 1:
            order = np.arange(size)
        else:
            order = np.random.default_rng([self._seed, index, update]).permutation(size)
        return [np.sort(part) for part in np.array_split(order, count)]

    def _accumulate(
        self,
        rollout: Rollout,
        batch: Batch | None,
        part: NDArray[np.int64],
        *,
        on_policy: bool,
    ) -> tuple[float, dict[str, float]]:
        """Accumulate gradients over this process's share of some places of the whole batch.

        Args:
            batch: made of it; None if it holds nothing.
            part: places in the batch of all processes; losses are divided by their number.
            on_policy: whether the policy is still the one that rolled out.

        Returns:
            This process's part of the loss, and of the algorithm's figures.
        """
        sums: dict[str, float] = {}
        if batch is None:
            return 0.0, sums
        here = torch.from_numpy(np.isin(rollout.places, part).nonzero()[0])
        here = here.to(self._policy.device)
        total = 0.0
        algorithm, trains = self._algorithm, self._algorithm.trains_backbone
        leaves, at = algorithm.scores_leaves, algorithm.loss_temperature
        anchor = self._anchor if trains else 0.0
        joins = algorithm.scores_targets or anchor > 0
        with self._ledger.phase(self._phase("update")):
            sizes = packed_sizes(
                batch.prompts, batch.tree, leaves, batch.targets if joins else None
            )
            for rows in chunks(sizes[here], self._policy.tokens_per_forward):
                chunk = batch.select(here[rows])
                targets = chunk.targets if joins else None
                with torch.set_grad_enabled(trains):
                    scores = score(
                        self._policy,
                        chunk.prompts,
                        chunk.tree,
                        leaves=leaves,
                        temperature=at,
                        targets=targets,
                    )
                if on_policy and self._rereads:
                    read = scores.node_log_probs.detach()
                    chunk = replace(chunk, tree=replace(chunk.tree, log_probs=read))
                said = scores.target_log_probs
                if said is not None and algorithm.scores_targets and batch.target_log_probs is None:
                    chunk = replace(chunk, target_log_probs=said.detach())
                losses, figures = loss_of(
                    algorithm, algorithm.loss(chunk, scores), len(chunk.prompts)
                )
                if said is not None and anchor > 0:
                    unlikely = -said.sum(dim=1)
                    losses = losses + anchor * unlikely
                    figures = {**figures, "target_nll": unlikely.detach()}
                (losses.sum() / len(part)).backward()
                total += float(losses.detach().sum()) / len(part)
                for name, values in figures.items():
                    sums[name] = sums.get(name, 0.0) + float(values.sum()) / len(part)
        return total, sums
