"""genrec-bench: reinforcement learning for generative recommenders, compared fairly and fast."""

__version__ = "0.3.0"
