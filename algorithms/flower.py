"""Flower: flow-guided fine-tuning (Gao et al. 2025, arXiv 2503.07377), a GFlowNet on the SID tree.

The flow through a prefix is how many training targets lie under it, F(h). A code earns

    log r(v | h) = log q(v | h) / p_ui,    q(v | h) = F(hv) / F(h)

and the policy is to choose codes in proportion. With delta_m = log pi(y_m | y_<m) - log r_m,

    loss = theta L_SFT + (1 - theta) mean over 0 <= i < j <= L of (sum_{i < m <= j} delta_m)^2

the second term being sub-trajectory balance (SubTB, all sub-trajectories alike). Where ``personal``
is none, p_ui is 1 and its optimum is pi = q: each SID as probable as it is frequent.

Differences from GRPO: (1) no advantages; rewards of codes, process supervision, are matched and not
maximised. (2) Candidates are samples, and the target's likelihood stays in the loss.

Differences from the paper and its code:

* All SIDs have L codes, so that where a SID ends is certain: the code's terms of the terminator and
  of incomplete titles are left out.
* p_ui = 1 + (s_ui - mean_i s_ui) / (max_i - min_i) (``divided``, the main form), or log p_ui with
  p_ui = (s_ui - min_i) / (max_i - min_i) is added to log r (``added``). s is SASRec's softmax there
  and counts of what followed a history's items here (``Successors``).
* A prompt has G trajectories and not one; L_SFT is a mean over codes, as both are there.
* ``floor`` is the code's log-reward of what has none, such as SIDs that are nobody's target.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import (
    Algorithm,
    Batch,
    CandidateTree,
    Hyperparameters,
    Policy,
    Prompts,
    Scores,
    Seen,
    Successors,
    TrainingData,
    fixed,
    hyperparameter,
    masked_mean,
    no_gradient_figures,
    sample,
)


@dataclass(frozen=True)
class FlowerHyperparameters(Hyperparameters):
    """The mixture, and the reward."""

    # The paper's theta: 0.99, 0.995, 0.999, 0.9995 and 0.9999.
    flow_weight: float = hyperparameter(
        1e-3, low=0, high=1, search=(1e-4, 1e-2), log=True, help="1 - theta: weight of the flows"
    )
    personal: str = fixed(
        "divided", choices=("divided", "added", "none"), help="what a user's taste does to rewards"
    )
    floor: float = fixed(-15.0, low=-1000, high=0, help="the least log-reward of a code")


def subtrajectory_balance(delta: Tensor) -> Tensor:
    """Return [...] the mean over sub-trajectories of the square of what delta [..., L] sums to."""
    sums = torch.cat([torch.zeros_like(delta[..., :1]), delta.cumsum(dim=-1)], dim=-1)
    begin, end = torch.triu_indices(sums.shape[-1], sums.shape[-1], offset=1, device=delta.device)
    return (sums[..., end] - sums[..., begin]).square().mean(dim=-1)


class Flower(Algorithm):
    """Codes in proportion to the flow below them."""

    hyperparameters_class = FlowerHyperparameters
    hyperparameters: FlowerHyperparameters
    scores_targets = True

    def __init__(self, hyperparameters: FlowerHyperparameters) -> None:
        super().__init__(hyperparameters)
        self.kept: dict[str, Tensor] = {}

    def begin(self, data: TrainingData) -> None:
        """Count the flow below each prefix, and what followed what."""
        flow = data.prefix_counts.double()
        flow = (flow.log() - flow[data.trie.parent].log()).nan_to_num(nan=-torch.inf).float()
        self.kept = {"flow": flow, **Successors.count(data).tensors()}

    def state(self) -> Mapping[str, Tensor]:
        """Return log q of each trie state, and the counts."""
        return self.kept

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take both up."""
        self.kept = dict(state)

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Draw trajectories from the policy inside the trie."""
        return sample(policy, prompts, group_size)

    def taste(self, prompts: Prompts, tree: CandidateTree) -> Tensor:
        """Return [B, G, 1] p_ui of each candidate."""
        counted = {name: values for name, values in self.kept.items() if name != "flow"}
        shares = Successors(**counted).shares(prompts.histories)
        least, largest = shares.amin(dim=1, keepdim=True), shares.amax(dim=1, keepdim=True)
        zero = shares.mean(1, True) if self.hyperparameters.personal == "divided" else least
        own = shares.gather(1, tree.trie.sid_index(tree.leaves).clamp(min=0))
        scaled = (own - zero) / (largest - least).clamp(min=1e-30)
        return (scaled + float(self.hyperparameters.personal == "divided")).unsqueeze(-1)

    def log_rewards(self, seen: Seen) -> Tensor:
        """Return [B, G, L] log r of each code; 0 at candidates that are not real."""
        hp, tree = self.hyperparameters, seen.tree
        rewards = self.kept["flow"][tree.on_paths(tree.states)].clamp(min=hp.floor)
        if hp.personal == "divided":
            rewards = rewards / self.taste(seen.prompts, tree).clamp(min=1e-20)
        elif hp.personal == "added":
            rewards = rewards + self.taste(seen.prompts, tree).log()
        return rewards.clamp(min=hp.floor).masked_fill(~tree.valid.unsqueeze(-1), 0.0)

    def reward(self, seen: Seen) -> Tensor:
        """Return [B, G] the log-reward of a candidate, that of its codes together."""
        return self.log_rewards(seen).sum(dim=-1)

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return [B, G, L] the log-reward of each code: what the loss is to match."""
        return self.log_rewards(seen)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Mix the target's likelihood with sub-trajectory balance."""
        share, of_target = self.hyperparameters.flow_weight, scores.target_log_probs
        assert of_target is not None
        balance = subtrajectory_balance(scores.log_probs - batch.advantages)
        flows = masked_mean(balance, batch.tree.valid)
        loss = share * flows - (1 - share) * of_target.mean(dim=-1)
        return loss, no_gradient_figures(flow_loss=flows)
