"""What the harness answers when an algorithm looks at its groups; every answer is billed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from genrec_bench.decoding.beam import chunks
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import Scores, packed_sizes, score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.groups import Reference, Seen
from genrec_bench.training.kept_weights import KeptStart
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.out_of_memory import in_smaller_passes
from genrec_bench.training.workers import Workers


class Views:
    """Views of groups in one process, among others.

    Attributes:
        policy: the one that is trained.
        algorithm: asks.
        workers: this process among all.
        reference_policy: frozen, or what lends the policy of the start, or None.
        embeddings: [num_sids, E] of the catalog's SIDs, if the algorithm uses them.
        step: how many steps were taken before.
        share: of the budget that is spent.
    """

    def __init__(
        self,
        policy: Policy,
        algorithm: Algorithm,
        ledger: Ledger,
        workers: Workers,
        reference_policy: Policy | KeptStart | None = None,
        embeddings: Tensor | None = None,
    ) -> None:
        self.policy = policy
        self.algorithm = algorithm
        self.workers = workers
        self.reference_policy = reference_policy
        self.embeddings = embeddings
        self.step, self.share = 0, 0.0
        self._ledger = ledger

    def seen(
        self,
        prompts: Prompts,
        tree: CandidateTree,
        targets: Tensor,
        told: Reference | None = None,
    ) -> Seen:
        """Return what the algorithm is shown of some groups."""
        return Seen(prompts, tree, targets, self, told)

    def target_log_probs(self, prompts: Prompts, targets: Tensor) -> Tensor:
        """Return [B, L] of the targets' codes under the policy; a pass over prompts and targets."""
        trie = self.policy.trie
        nothing = torch.zeros(len(targets), 1, trie.num_levels, device=targets.device)
        tree = CandidateTree.build(trie, targets.unsqueeze(1), nothing)
        with torch.no_grad(), self._ledger.phase("rollout"):
            found, _ = self.node_log_probs(self.policy, prompts, tree)
        return tree.on_paths(found)[:, 0]

    def node_log_probs(
        self,
        policy: Policy,
        prompts: Prompts,
        tree: CandidateTree,
        targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return [B, N] of each node's code and [B, L] of the targets', in an update's passes."""
        found = torch.zeros_like(tree.log_probs)
        on_target = found.new_zeros(len(found), tree.trie.num_levels)
        at = self.algorithm.loss_temperature

        def read() -> None:
            sizes = packed_sizes(prompts, tree, targets=targets)
            for rows in chunks(sizes, policy.tokens_per_forward):
                wanted = None if targets is None else targets[rows]
                some = prompts.select(rows), tree.select(rows)
                scores = score(policy, *some, temperature=at, targets=wanted)
                found[rows, : some[1].states.shape[1]] = scores.node_log_probs
                if scores.target_log_probs is not None:
                    on_target[rows] = scores.target_log_probs

        in_smaller_passes(policy, read)
        return found, on_target

    def reference(self, prompts: Prompts, tree: CandidateTree, targets: Tensor) -> Reference | None:
        """Ask the reference policy, if there is one, about candidates and, if scored, targets."""
        start = self.reference_policy
        if start is None:
            return None
        of_target = targets if self.algorithm.scores_targets else None
        lent = nullcontext(start) if isinstance(start, Policy) else start.policy()
        with torch.no_grad(), self._ledger.phase("reference"), lent as policy:
            found, on_target = self.node_log_probs(policy, prompts, tree, of_target)
        return Reference(tree.on_paths(found), None if of_target is None else on_target)

    @torch.no_grad()
    def read(
        self,
        prompts: Prompts,
        tree: CandidateTree,
        targets: Tensor,
        what: Callable[[Scores], Tensor],
    ) -> Tensor:
        """Return what a function reads of the policy's view of groups; see ``Seen.read``."""
        asks = self.algorithm
        of_target = targets if asks.scores_targets else None
        parts: list[Tensor] = []
        order: list[Tensor] = []

        def look() -> None:
            parts.clear()
            order.clear()
            sizes = packed_sizes(prompts, tree, asks.scores_leaves, of_target)
            for rows in chunks(sizes, self.policy.tokens_per_forward):
                scores = score(
                    self.policy,
                    prompts.select(rows),
                    tree.select(rows),
                    leaves=asks.scores_leaves,
                    temperature=asks.loss_temperature,
                    targets=None if of_target is None else of_target[rows],
                )
                parts.append(what(scores))
                order.append(rows)

        with self._ledger.phase("value"):
            in_smaller_passes(self.policy, look)
        width = max((part.shape[1] for part in parts if part.dim() > 1), default=0)
        widened = []
        for part in parts:
            if part.dim() > 1 and part.shape[1] < width:
                lack = part.new_zeros(len(part), width - part.shape[1], *part.shape[2:])
                part = torch.cat([part, lack], dim=1)
            widened.append(part)
        return torch.cat(widened)[torch.cat(order).argsort()]

    def sum(self, values: Tensor) -> Tensor:
        """Add numbers up over all processes; inside of ``together`` only."""
        if self.workers.count == 1:
            return values
        asking, size = self.workers.sum([1.0, float(values.numel())])
        if size != asking * values.numel():
            raise ValueError("processes ask for sums of different sizes")
        total = torch.tensor(self.workers.sum(values.detach().double().flatten().tolist()))
        return total.view(values.shape).to(values)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let all processes do something in which some may ask for sums, and others have nothing.

        Those that are done add nothing to the sums of those that are not.
        """
        yield
        while self.workers.count > 1:
            asking, size = self.workers.sum([0.0, 0.0])
            if not asking:
                return
            self.workers.sum([0.0] * round(size / asking))
