"""What an algorithm's file imports: the contract, and the pieces that algorithms are made of."""

from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.sampling import sample, stochastic_beam
from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import Scores
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.base_algorithm import Algorithm, Batch, no_gradient_figures
from genrec_bench.training.hyperparameters import Hyperparameters, Times, hyperparameter

__all__ = [
    "Algorithm",
    "Batch",
    "CandidateTree",
    "Hyperparameters",
    "Policy",
    "Prompts",
    "Scores",
    "Times",
    "UserError",
    "beam_search",
    "hyperparameter",
    "no_gradient_figures",
    "sample",
    "stochastic_beam",
]
