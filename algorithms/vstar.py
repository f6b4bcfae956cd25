"""V-STAR: value-guided sampling, tree-structured advantages (Jiang et al. 2026, arXiv 2602.10699).

Differences from GRPO, in the order of §4:

1. Value (Eq. 5 to 9). A head on the policy's hidden states says what a prefix is worth. Let e(p) be
   the mean embedding of those candidates of the group that share the prefix p of length l, and

       r_l = w_l  if p is a prefix of the target y*,  else  -w_l (1 - cos(e(p), e(y*)))
       L_V = mean (V_l - y_l)^2,   y_l = r_l + gamma V_(l+1),   y_L = r_L

   over the prefixes of all candidates. No gradient passes through y_l, and none from L_V into the
   backbone: the paper trains phi, the head, by it.
2. Candidates (Eq. 11 to 14) come from VED: a tree that starts with a beam of ``initial_beam`` is
   traversed by U = G + beta sqrt(ln(N_root + 1) / (N + 1)), G = V + lambda H. A prefix on the way
   gains a child if its G is at least its level's mean. The leaves of highest V are the candidates.
   All this may cost no more tokens than a beam of G candidates, times ``token_budget``.
3. Sibling-GRPO (Eq. 15 to 19). With R(v) the mean reward of the candidates through node v,

       A(v) = (R(v) - mean R of the siblings) / (std R of the siblings + eps)
       J    = 1/|C| sum over nodes of A(v) pi(v) / pi_old(v)

4. The loss is GRPO's - sibling_weight J + value_weight L_V, averaged over prompts.

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

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from genrec_bench.algorithm import Batch, no_gradient_figures
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.sampling import sample, stochastic_beam
from genrec_bench.decoding.value import Prefixes, ValueHead
from genrec_bench.decoding.ved import VEDOptions, ved
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import Scores
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.advantages import sibling_advantage
from genrec_bench.training.hyperparameters import Hyperparameters, Times, hyperparameter
from genrec_bench.training.losses import group_mean, sibling_objective, temporal_difference_loss
from genrec_bench.training.rewards import level_weights, semantic_reward

SEARCHES = ("ved", "beam", "top-k")
REWARDS = ("rule", "rank", "rule+rank", "random")
OF_SFT = Times(0.1, 3, of="sft_learning_rate")
fixed = partial(hyperparameter, search=False)
weight = partial(hyperparameter, low=0, high=100)


@dataclass(frozen=True)
class VSTARHyperparameters(GRPOHyperparameters):
    """GRPO's, and those of VED, the value and Sibling-GRPO, with the numbers of §5.1."""

    reward: str = fixed("rule+rank", choices=REWARDS, help="R of Eq. 2 and 17; see grpo's")
    beta: float = weight(0.001, high=1, log=True, search=(1e-4, 0.04), help="beta; see grpo's")
    training: str = fixed("ved", choices=SEARCHES, help="how training finds candidates")
    inference: str = fixed("beam", choices=SEARCHES, help="how evaluation finds candidates")
    token_budget: float = fixed(
        1.0, low=1, high=16, help="VED's tokens over a beam's; training=beam is so much wider"
    )
    initial_beam: int = fixed(8, low=1, high=1024, help="width of VED's first beam; at most G/2")
    priority: str = fixed("G", choices=("G", "V", "H"), help="G: Eq. 11; V, H: one part of it")
    # Both from nothing; H is some nats, so that half of it is about as large as V.
    entropy_weight: float = weight(0.1, high=10, search=(0, 0.5), help="lambda of Eq. 11")
    exploration: float = weight(1.0, search=(0, 2), help="beta of Eq. 13; the released code's")
    leaf_value: str = fixed("own", choices=("own", "parent"), help="whose V a leaf has")
    traversals_per_round: int = fixed(0, low=0, high=1024, help="paper: 1; 0: more if budgets are")
    top_k: int = fixed(50, low=0, high=100_000, help="codes that top-k draws from; 0: all")
    temperature: float = fixed(1.0, low=0.01, high=100, help="of top-k's draws")
    objective: str = fixed("joint", choices=("joint", "grpo", "sibling"), help="see Table 4")
    sibling_weight: float = weight(1.0, log=True, search=(0.25, 4), help="weight of Eq. 19")
    level_weights: str = fixed("0.3,0.5,1", help="w_l of Eq. 8, stretched if L is another")
    discount: float = fixed(0.99, low=0, high=1, help="gamma of Eq. 9")
    # It trains the head alone, by Adam, whose steps no weight changes: its learning rate is tuned.
    value_weight: float = weight(1.0, search=False, help="weight of L_V")
    value_trains_policy: bool = fixed(False, help="whether L_V trains the backbone too")
    head_learning_rate: float | None = hyperparameter(
        None, low=1e-8, high=1, log=True, search=OF_SFT, help="peak of V; by default that of SFT"
    )

    def __post_init__(self) -> None:
        """Check the numbers inside ``level_weights`` too."""
        super().__post_init__()
        level_weights(self.level_weights, 1)


class VSTAR(GRPO):
    """A value decides where to search, and the tree who is compared with whom."""

    hyperparameters_class = VSTARHyperparameters

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        """Keep V-STAR's own hyperparameters at hand."""
        super().__init__(hyperparameters)
        self.own = cast(VSTARHyperparameters, hyperparameters)

    def heads(self, hidden_size: int) -> Mapping[str, nn.Module]:
        """V of §4.1, also where only VED's entropy guides the search."""
        return {"value": ValueHead(hidden_size)}

    @property
    def head_learning_rate(self) -> float | None:
        """As chosen."""
        return self.own.head_learning_rate

    @property
    def scores_leaves(self) -> bool:
        """L_V reads the last level's values, and embeddings; a head without it expects nothing."""
        return self.own.value_weight > 0

    uses_embeddings = estimates_values = scores_leaves

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Search as training does; a beam spends its token budget on more candidates."""
        own = self.own
        if own.training == "ved":
            return self._ved(policy, prompts, group_size, key=None)
        if own.training == "beam":
            return beam_search(policy, prompts, round(own.token_budget * group_size))
        return sample(policy, prompts, group_size, temperature=own.temperature, top_k=own.top_k)

    @property
    def decoding(self) -> str:
        """Say what bears on the number of tokens and on the draws."""
        own = self.own
        top_k = f"top-k {own.top_k} at {own.temperature:g}"
        return {"ved": f"ved {own.token_budget:g}x", "top-k": top_k}.get(own.inference, "beam")

    def decode(self, policy: Policy, prompts: Prompts, width: int) -> CandidateTree:
        """Search as evaluation does; its draws have a key of their own."""
        own = self.own
        if own.inference == "ved":
            return self._ved(policy, prompts, width, key=0)
        draws = {"top_k": own.top_k, "key": 0}
        return stochastic_beam(policy, prompts, width, temperature=own.temperature, **draws)

    def _ved(self, policy: Policy, prompts: Prompts, count: int, key: int | None) -> CandidateTree:
        def value(prefixes: Prefixes) -> Tensor:
            with policy.metered("value"):
                return cast(Tensor, policy.heads["value"](prefixes))

        # Each of VED's options is a hyperparameter of the same name.
        options = VEDOptions(**{f.name: getattr(self.own, f.name) for f in fields(VEDOptions)})
        return ved(policy, prompts, count, value, options, key=key).tree

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up Eq. 2, 19 and 9 for each prompt."""
        own, tree = self.own, batch.tree
        # Without credit from the group, GRPO's loss is the divergence.
        none = torch.zeros_like(batch.advantages)
        grpo = replace(batch, advantages=none) if own.objective == "sibling" else batch
        loss, figures = super().loss(grpo, scores)
        if own.objective != "grpo":
            credit = sibling_advantage(tree, batch.rewards, epsilon=own.epsilon)
            siblings = sibling_objective(scores.node_log_probs, tree.log_probs, credit, tree.valid)
            loss = loss + own.sibling_weight * siblings
            figures |= no_gradient_figures(nodes_with_credit=(credit != 0).sum(dim=1))
        if own.value_weight > 0:
            with scores.policy.metered("value"):
                values = tree.on_paths(self.values(scores))
                error = self._value_loss(batch, values)
            loss = loss + own.value_weight * error
            last, hits = values[..., -1:], tree.hits(batch.targets)
            wrong = tree.valid & ~hits
            # Averaged over prompts, of which those without a hit have no gap.
            gap = (group_mean(last, hits) - group_mean(last, wrong)) * hits.any(1) * wrong.any(1)
            figures |= no_gradient_figures(value_loss=error, value_gap=gap)
        return loss, figures

    def _value_loss(self, batch: Batch, values: Tensor) -> Tensor:
        assert batch.embeddings is not None
        tree = batch.tree
        weights = level_weights(self.own.level_weights, tree.trie.num_levels)
        steps = tree.on_paths(semantic_reward(tree, batch.targets, batch.embeddings, weights))
        return temporal_difference_loss(values, steps, tree.valid, self.own.discount)

    def values(self, scores: Scores) -> Tensor:
        """Return V of each node (Eq. 5)."""
        root, nodes = scores.root_hidden, scores.node_hidden
        if not self.own.value_trains_policy:
            root, nodes = root.detach(), nodes.detach()
        return cast(ValueHead, scores.policy.heads["value"]).of_tree(scores.tree, root, nodes)
