"""What an algorithm's file imports: the contract, and the pieces that algorithms are made of."""

from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.catalog_draws import catalog_draws
from genrec_bench.decoding.sampling import sample, stochastic_beam
from genrec_bench.decoding.value import tree_values, value_heads, value_of
from genrec_bench.decoding.value_features import value_inputs
from genrec_bench.decoding.ved import ved
from genrec_bench.decoding.ved_options import VEDOptions
from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import Scores
from genrec_bench.policy.supervised import TargetScores
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie
from genrec_bench.training.base_algorithm import Algorithm, no_gradient_figures
from genrec_bench.training.groups import Batch, Seen
from genrec_bench.training.hyperparameters import (
    Hyperparameters,
    Times,
    fixed,
    hyperparameter,
    per_level,
    rate,
    weight,
)
from genrec_bench.training.objectives import (
    clipped_objective,
    group_advantage,
    group_mean,
    k3_divergence,
    masked_mean,
    masked_softmax,
    random_reward,
    ranking_loss,
    rule_reward,
)
from genrec_bench.training.own_metrics import RankedLists, metric
from genrec_bench.training.successors import Successors
from genrec_bench.training.training_data import TrainingData
from genrec_bench.training.value_rewards import semantic_reward, td_loss, value_gap

__all__ = [
    "Algorithm",
    "Batch",
    "CandidateTree",
    "Hyperparameters",
    "Policy",
    "Prompts",
    "RankedLists",
    "Scores",
    "Seen",
    "Successors",
    "TargetScores",
    "Times",
    "TrainingData",
    "Trie",
    "UserError",
    "VEDOptions",
    "beam_search",
    "catalog_draws",
    "clipped_objective",
    "fixed",
    "group_advantage",
    "group_mean",
    "hyperparameter",
    "k3_divergence",
    "masked_mean",
    "masked_softmax",
    "metric",
    "no_gradient_figures",
    "per_level",
    "random_reward",
    "ranking_loss",
    "rate",
    "rule_reward",
    "sample",
    "semantic_reward",
    "stochastic_beam",
    "td_loss",
    "tree_values",
    "value_heads",
    "value_inputs",
    "value_gap",
    "value_of",
    "ved",
    "weight",
]
