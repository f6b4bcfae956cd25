"""PPO: proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347), over the L codes.

A state is a prompt and the codes so far, an action the next code. A critic V says what is to come.

    r_t   = -beta log(pi_old / pi_ref)_t + 1[t = L] R                       (as RLHF has it)
    d_t   = r_t + gamma V_t+1 - V_t,   V_L+1 = 0                            (Eq. 12)
    A_t   = d_t + gamma lambda A_t+1                                        (Eq. 11, GAE)
    loss  = clipped surrogate of A_t, whitened (Eq. 7) + c_v 1/2 (V_t - return_t)^2        (Eq. 9)

averaged over codes and candidates. return_t = A_t + V_t, with the A_t of before whitening; both are
told once a rollout, by the critic as it was then, for all updates.

Differences from GRPO:

1. Credit is of each code, by the critic, and not of candidates by their group. It is whitened over
   all codes of a step (``whiten``), and a group of one teaches too.
2. The critic is a head on the policy's hidden states at the prompt's end and at each code but the
   last; asking it before the updates costs a forward pass. TRL trains a second model in its place.
   ``critic_trains_policy`` lets its loss reach the backbone.
3. The divergence is k1 in the reward, code by code.
4. Candidates are samples, and a rollout is used four times. Numbers are TRL's defaults;
   ``value_clip`` is 0.2 there, and the paper does not have it.

The entropy bonus of Eq. 9 is left out, as in TRL.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from genrec_bench.algorithm import (
    Batch,
    Scores,
    Seen,
    clipped_objective,
    fixed,
    group_mean,
    hyperparameter,
    no_gradient_figures,
    weight,
)
from genrec_bench.algorithms.reinforce import Reinforce, ReinforceHyperparameters, whitened


@dataclass(frozen=True)
class PPOHyperparameters(ReinforceHyperparameters):
    """Those of TRL."""

    whiten: bool = fixed(True, help="whether A has mean 0 and deviation 1 over a step")
    # Clipping is live here (4).
    clip: float = hyperparameter(0.2, low=0, high=1, search=(0.1, 0.4), help="c of Eq. 7")
    beta: float = weight(0.05, high=1, search=(0, 0.1, 0.01), help="weight of k1 in the reward")
    discount: float = fixed(1.0, low=0, high=1, help="gamma")
    trace: float = hyperparameter(0.95, low=0, high=1, search=(0.8, 1), help="lambda of GAE")
    # It trains the head alone, by Adam, whose steps no weight changes.
    value_weight: float = fixed(0.1, low=0.001, high=100, help="c_v, weight of the critic's loss")
    value_clip: float = fixed(0.0, low=0, high=100, help="how far V may move; 0: as far as it goes")
    critic_trains_policy: bool = fixed(False, help="whether the critic's loss trains the backbone")
    updates_per_rollout: int = fixed(4, low=1, high=64, help="passes over one rollout")
    minibatches: int = fixed(1, low=1, high=64, help="parts of a pass, an optimizer step each")


def gae(rewards: Tensor, values: Tensor, discount: float, trace: float) -> Tensor:
    """Return [B, G, L] A_t of rewards and values, both [B, G, L] (Eq. 11 and 12)."""
    credit, following = torch.zeros_like(rewards), torch.zeros_like(rewards[..., 0])
    later = following
    for t in reversed(range(rewards.shape[-1])):
        error = rewards[..., t] + discount * following - values[..., t]
        later = error + discount * trace * later
        credit[..., t], following = later, values[..., t]
    return credit


class PPO(Reinforce):
    """A critic's credit for each code."""

    hyperparameters_class = PPOHyperparameters
    hyperparameters: PPOHyperparameters

    def __init__(self, hyperparameters: PPOHyperparameters) -> None:
        super().__init__(hyperparameters)
        self.updates_per_rollout = hyperparameters.updates_per_rollout
        self.minibatches = hyperparameters.minibatches

    @property
    def uses_reference(self) -> bool:
        """Only if the divergence has a weight."""
        return self.hyperparameters.beta > 0

    def heads(self, hidden_size: int, embedding_size: int, trie: object) -> Mapping[str, nn.Module]:
        """Return V, which is 0 at first: it knows nothing and prefers nothing."""
        last = nn.Linear(hidden_size, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return {"critic": nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.Tanh(), last)}

    def _critic(self, scores: Scores) -> Tensor:
        """Return [B, G, L] V before each code: of the prompt, then of the codes above the last."""
        tree, most = scores.tree, scores.node_hidden.shape[1]
        above = (tree.is_node & (tree.levels < tree.trie.num_levels))[:, :most]
        real = pad(above, (1, 0), value=True)
        # Without padding, which nobody pays for.
        hidden = torch.cat([scores.root_hidden.unsqueeze(1), scores.node_hidden], dim=1)[real]
        if not self.hyperparameters.critic_trains_policy:
            hidden = hidden.detach()
        critic = scores.policy.heads["critic"]
        hidden = hidden.to(next(critic.parameters()).dtype)
        with scores.policy.metered("value"):
            found: Tensor = critic(hidden).squeeze(-1).float()
        values = torch.zeros(real.shape, device=found.device).masked_scatter(real, found)
        paths = tree.paths
        before = torch.cat([torch.zeros_like(paths[..., :1]), paths[..., :-1] + 1], dim=-1)
        return values.gather(1, before.flatten(1)).view(paths.shape)

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return [B, G, L, 3] of each code: A_t, and for the critic V_t and its return."""
        # Read as the reference is read: whitening would make credit of what a rollout rounds
        # otherwise, where nothing is earned.
        said = seen.read(lambda scores: torch.stack([self._critic(scores), scores.log_probs], -1))
        values, log_probs = said.unbind(-1)
        reference = seen.reference_log_probs if self.uses_reference else log_probs
        hp, real = self.hyperparameters, seen.tree.valid.unsqueeze(-1)
        earned = -hp.beta * (log_probs - reference)
        earned[..., -1] += rewards
        credit = gae(earned, values, hp.discount, hp.trace).masked_fill(~real, 0.0)
        told = [whitened(seen, credit) if hp.whiten else credit, values, credit + values]
        return torch.stack(told, dim=-1).masked_fill(~real.unsqueeze(-1), 0.0)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Clip the policy's ratio of each code, and let the critic learn the returns."""
        hp, tree = self.hyperparameters, batch.tree
        credit, before, returns = batch.advantages.unbind(-1)
        old = tree.on_paths(tree.log_probs)
        per_code = clipped_objective(scores.log_probs, old, credit, hp.clip, hp.clip)
        values = self._critic(scores)
        squared = (values - returns).square()
        if hp.value_clip:
            near = before + (values - before).clamp(-hp.value_clip, hp.value_clip)
            squared = torch.maximum(squared, (near - returns).square())
        error = group_mean(0.5 * squared, tree.valid)
        figures = no_gradient_figures(value_loss=error)
        return group_mean(per_code, tree.valid) + hp.value_weight * error, figures
