"""One file an algorithm: a class derived from ``genrec_bench.algorithm.Algorithm`` in each.

A file is found by being here, and its name is the algorithm's name. What a file holds: a docstring
with the paper, the formulas by their numbers and the numbered differences from the parent; a frozen
dataclass of hyperparameters whose defaults are the paper's; and the class.
"""
