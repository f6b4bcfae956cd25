"""V-STAR: value-guided sampling, tree-structured advantages (Jiang et al. 2026, arXiv 2602.10699).

Differences from GRPO, in the order of §4:

1. Value (Eq. 5 to 9). A head on the policy's hidden states learns what a prefix is worth, from
   dense rewards by nearness in meaning to the target. L_V trains the head and not the backbone.
   Ours is fed the probability of the prefix and its nearness to the history
   (``value_features``; ``hidden`` is the paper's head): a backbone that saw codes alone knows
   nothing of texts, and a head on its hidden states ranks below probability. In the share
   ``value_warmup`` of the budget V learns first (§4.1); the released script has none.
2. Candidates (Eq. 11 to 14) come from VED (``decoding/ved.py``), a tree search led by value and
   entropy that costs no more tokens than a beam of G candidates, times ``token_budget``.
3. Sibling-GRPO (Eq. 15 to 19). A node of the candidates' tree is compared with its siblings.
4. The loss is GRPO's - sibling_weight J_sib + value_weight L_V, averaged over prompts.

The paper's tables: ``inference=`` beam, top-k, ved (Table 2), ``priority=`` V, H, G (Table 3),
``objective=`` grpo, sibling, joint (Table 4), ``training=`` beam, ved with ``token_budget=`` 1 to 4
(Figure 4). It does not name its reward. The default is that of MiniOneRec, on which the released
code is built; ranks are by probability there and here, by value in that code. Otherwise it

* makes a full tree of every node's best children at first, so that the search of 2 never runs, and
  fills short groups with copies; gives a leaf its parent's value (``leaf_value=parent``), for free;
* pools siblings over the prompts of a batch, and divides J by the number of nodes that have an
  advantage; counts the divergence in J once more;
* takes a whole candidate's embedding for e(p), r_l alone for y_l once the first code is right, and
  trains the backbone by L_V too (``value_trains_policy``).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from genrec_bench.algorithm import (
    Batch,
    CandidateTree,
    Policy,
    Prompts,
    Scores,
    Times,
    VEDOptions,
    fixed,
    no_gradient_figures,
    per_level,
    rate,
    sample,
    semantic_reward,
    stochastic_beam,
    td_loss,
    tree_values,
    value_gap,
    value_heads,
    value_inputs,
    value_of,
    ved,
    weight,
)
from genrec_bench.algorithms.grpo import GRPO, REWARDS, GRPOHyperparameters

SEARCHES, PICKS = ("ved", "beam", "top-k"), ("value", "prefix", "probability")
OF_SFT = Times(0.1, 3, of="sft_learning_rate")


@dataclass(frozen=True)
class VSTARHyperparameters(GRPOHyperparameters):
    """GRPO's, and those of VED, the value and Sibling-GRPO, with the numbers of §5.1."""

    reward: str = fixed("rule+rank", choices=REWARDS, help="R of Eq. 17; see grpo's")
    beta: float = weight(0.001, high=1, log=True, search=(1e-4, 0.04), help="weight of k3")
    training: str = fixed("ved", choices=SEARCHES, help="how training finds candidates")
    inference: str = fixed("beam", choices=SEARCHES, help="how evaluation finds candidates")
    token_budget: float = fixed(1.0, low=1, high=16, help="times the tokens of a beam of width G")
    counted: str = fixed("read", choices=("read", "beam"), help="beam: leaves do not count")
    initial_beam: int = fixed(8, low=1, high=1024, help="width of VED's first beam; at most G/2")
    priority: str = fixed("G", choices=("G", "V", "H"), help="G: Eq. 11; V, H: one part of it")
    # Both from nothing; H is some nats, so that half of it is about as large as V.
    entropy_weight: float = weight(0.1, high=10, search=(0, 0.5), help="lambda of Eq. 11")
    exploration: float = weight(1.0, high=100, search=(0, 2), help="beta of Eq. 13; code: 1")
    leaf_value: str = fixed("own", choices=("own", "parent"), help="whose V a leaf has")
    traversals_per_round: int = fixed(1, low=1, high=1024, help="VED's traversals a pass; paper: 1")
    picked_by: str = fixed("value", choices=PICKS, help="which candidates VED keeps")
    ranked_by: str = fixed("probability", choices=("value", "probability"), help="VED's last order")
    top_k: int = fixed(50, low=0, high=100_000, help="codes that top-k draws from; 0: all")
    temperature: float = fixed(1.0, low=0.01, high=100, help="of top-k's draws")
    objective: str = fixed("joint", choices=("joint", "grpo", "sibling"), help="losses of Table 4")
    sibling_weight: float = weight(1.0, high=100, log=True, search=(0.25, 4), help="weight, Eq. 19")
    value_warmup: float = fixed(0.1, low=0, high=0.9, help="share in which V alone learns; code: 0")
    level_weights: str = fixed("0.3,0.5,1", help="w_l of Eq. 8, stretched if L is another")
    discount: float = fixed(0.99, low=0, high=1, help="gamma of Eq. 9")
    # It trains the head alone, by Adam, whose steps no weight changes: its learning rate is tuned.
    value_weight: float = fixed(1.0, low=0, high=100, help="weight of L_V")
    value_trains_policy: bool = fixed(False, help="whether L_V trains the backbone too")
    value_features: str = fixed(
        "probability,cosine", help="what V is fed, also: hidden, which is the paper's; embeddings"
    )
    head_learning_rate: float | None = rate(search=OF_SFT, help="peak of V; by default that of SFT")

    def __post_init__(self) -> None:
        """Check the words inside ``value_features`` and ``level_weights`` too."""
        super().__post_init__()
        value_inputs("value_features", self.value_features)
        per_level("level_weights", self.level_weights, 1)


def sibling_advantage(tree: CandidateTree, rewards: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """Return [B, N] (R(v) - mean) / (std + epsilon), over the siblings of v (Eq. 15 to 18).

    R(v) is the mean reward [B, G] of the candidates through v. A sibling counts once, and one alone
    has no advantage. The deviation, left open by the paper, has n in its denominator, as in code.
    """
    # As double: on a GPU sums are taken in any order, and equal runs shall stay equal.
    node_rewards = tree.bucket_mean(rewards.double().unsqueeze(-1)).squeeze(-1)
    count = tree.sibling_sums(torch.ones_like(node_rewards)).clamp(min=1)
    centered = node_rewards - tree.sibling_sums(node_rewards) / count
    deviation = (tree.sibling_sums(centered.square()) / count).sqrt()
    return (centered / (deviation + epsilon)).masked_fill(~tree.is_node, 0.0).to(rewards.dtype)


def sibling_loss(log_probs: Tensor, old: Tensor, advantages: Tensor, valid: Tensor) -> Tensor:
    """Return [B] -1 / |C| sum of A pi / pi_old over the nodes [B, N] of a tree (- Eq. 19)."""
    return -(advantages * (log_probs - old).exp()).sum(dim=1) / valid.sum(dim=1).clamp(min=1)


class VSTAR(GRPO):
    """A value decides where to search, and the tree who is compared with whom."""

    hyperparameters_class = VSTARHyperparameters
    hyperparameters: VSTARHyperparameters
    _warms_up = False

    def begin_step(self, step: int, share: float) -> None:
        """Learn V first (§4.1), on the policy as it is, before it is trained and V guides it."""
        self._warms_up = self.scores_leaves and share < self.hyperparameters.value_warmup

    @property
    def trains_backbone(self) -> bool:
        """Not in the warm-up of the value."""
        return not self._warms_up

    def heads(self, hidden_size: int, embedding_size: int, trie: object) -> dict[str, nn.Module]:
        """V of §4.1, also where only VED's entropy guides the search."""
        inputs = value_inputs("value_features", self.hyperparameters.value_features)
        return value_heads(hidden_size, embedding_size, inputs)

    @property
    def head_learning_rate(self) -> float | None:
        """As chosen."""
        return self.hyperparameters.head_learning_rate

    @property
    def scores_leaves(self) -> bool:
        """L_V reads values of all levels, and embeddings; without L_V the head learns nothing."""
        return self.hyperparameters.value_weight > 0

    uses_embeddings = estimates_values = scores_leaves

    def values(self, scores: Scores) -> Tensor:
        """Return V of each node (Eq. 5)."""
        return tree_values(scores, detach=not self.hyperparameters.value_trains_policy)

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Search as training does, and by a beam in the warm-up, as no value can guide it yet."""
        hp = self.hyperparameters
        if self._warms_up:
            return super().rollout(policy, prompts, group_size)
        if hp.training == "ved":
            return self._ved(policy, prompts, group_size, key=None)
        if hp.training == "beam":
            return super().rollout(policy, prompts, round(hp.token_budget * group_size))
        return sample(policy, prompts, group_size, temperature=hp.temperature, top_k=hp.top_k)

    @property
    def decoding(self) -> str:
        """Say what bears on the number of tokens and on the draws."""
        hp = self.hyperparameters
        top_k = f"top-k {hp.top_k} at {hp.temperature:g}"
        return {"ved": VEDOptions.of(hp).name, "top-k": top_k}.get(hp.inference, "beam")

    def decode(self, policy: Policy, prompts: Prompts, width: int) -> CandidateTree:
        """Search as evaluation does; its draws have a key of their own."""
        hp = self.hyperparameters
        if hp.inference == "ved":
            return self._ved(policy, prompts, width, key=0)
        draws = {"top_k": hp.top_k, "key": 0}
        return stochastic_beam(policy, prompts, width, temperature=hp.temperature, **draws)

    def _ved(self, policy: Policy, prompts: Prompts, count: int, key: int | None) -> CandidateTree:
        options = VEDOptions.of(self.hyperparameters)
        return ved(policy, prompts, count, value_of(policy, prompts), options, key=key).tree

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up GRPO's loss, Eq. 19 and Eq. 9 for each prompt; Eq. 9 alone in the warm-up."""
        hp, tree = self.hyperparameters, batch.tree
        if self._warms_up:
            return self._value_loss(batch, scores)
        # Without credit from the group, GRPO's loss is the divergence.
        none = torch.zeros_like(batch.advantages)
        grpo = replace(batch, advantages=none) if hp.objective == "sibling" else batch
        loss, figures = super().loss(grpo, scores)
        if hp.objective != "grpo":
            credit = sibling_advantage(tree, batch.rewards, epsilon=hp.epsilon)
            siblings = sibling_loss(scores.node_log_probs, tree.log_probs, credit, tree.valid)
            loss = loss + hp.sibling_weight * siblings
            figures |= no_gradient_figures(nodes_with_credit=(credit != 0).sum(dim=1))
        if hp.value_weight > 0:
            error, of_value = self._value_loss(batch, scores)
            loss, figures = loss + error, figures | of_value
        return loss, figures

    def _value_loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Return value_weight L_V for each prompt [B] (Eq. 9), and figures."""
        hp, tree = self.hyperparameters, batch.tree
        assert batch.embeddings is not None
        weights = per_level("level_weights", hp.level_weights, tree.trie.num_levels)
        with scores.policy.metered("value"):
            values = tree.on_paths(self.values(scores))
            rewards = semantic_reward(tree, batch.targets, batch.embeddings, weights)
            error = td_loss(values, tree.on_paths(rewards), tree.valid, hp.discount)
        gap = value_gap(values[..., -1], tree.hits(batch.targets), tree.valid)
        return hp.value_weight * error, no_gradient_figures(value_loss=error, value_gap=gap)
