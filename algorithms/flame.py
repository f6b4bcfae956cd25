"""FLAME: GRPO with credit for each step, by a potential (Fan et al. 2025, arXiv 2505.20218).

The paper lists drugs one after the other; a SID is written one code after the other. Differences
from GRPO:

1. A potential phi(l) says what the first l codes are worth. A candidate earns R_i = phi(L) - phi(0)
   and each code, beside its candidate's share in the group, what it has changed:

       A_il = z(R)_i + lambda (phi_i(l) - phi_i(l - 1))

   z is GRPO's comparison within the group; the changes are not compared.
2. phi is the Jaccard index with what is true. Codes count only after the right prefix, as the same
   code elsewhere means something else: with m of l codes right, phi(l) = m / (l + L - m). It rises
   to 1 with right codes and falls with each code after a mistake. ``potential=prefix`` is m / L,
   where a code after a mistake changes nothing; it is GRPO's with credit for the right prefix.
3. ``credit`` is lambda, 0.5 as in the paper.

The paper's penalties of drugs that interact and of refusals have nothing to punish here. It draws
its groups; here candidates are those of a beam, as GRPO's are. Which weight its divergence has was
not found: ``beta`` is GRPO's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import CandidateTree, Seen, fixed, weight
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters


@dataclass(frozen=True)
class FLAMEHyperparameters(GRPOHyperparameters):
    """GRPO's, with a potential in place of its rewards."""

    reward: str = fixed("potential", choices=("potential",), help="R of 1 above")
    potential: str = fixed("jaccard", choices=("jaccard", "prefix"), help="phi; prefix: m / L")
    # Twice the paper's makes a code's own credit as large as its candidate's.
    credit: float = weight(0.5, high=100, search=(0, 1), help="lambda, of each code's own change")


class FLAME(GRPO):
    """What a code is worth, beside what its candidate is."""

    hyperparameters_class = FLAMEHyperparameters
    hyperparameters: FLAMEHyperparameters

    def potential(self, tree: CandidateTree, targets: Tensor) -> Tensor:
        """Return [B, G, L] phi after each code; phi(0) is 0."""
        wanted = tree.trie.prefixes(targets).unsqueeze(1)
        right = ((tree.on_paths(tree.states) == wanted) & tree.valid.unsqueeze(-1)).cumsum(dim=-1)
        length = torch.arange(1, tree.trie.num_levels + 1, device=right.device)
        missed = length - right if self.hyperparameters.potential == "jaccard" else 0
        return right / (tree.trie.num_levels + missed)

    def reward(self, seen: Seen) -> Tensor:
        """Return R, the potential of whole candidates."""
        return self.potential(seen.tree, seen.targets)[..., -1]

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return [B, G, L], the candidate's in its group and each code's own."""
        phi = self.potential(seen.tree, seen.targets)
        change = phi.diff(dim=-1, prepend=torch.zeros_like(phi[..., :1]))
        of_candidates = super().advantage(seen, rewards).unsqueeze(-1)
        own = self.hyperparameters.credit * change
        return (of_candidates + own) * seen.tree.valid.unsqueeze(-1)
