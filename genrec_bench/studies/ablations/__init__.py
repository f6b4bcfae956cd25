"""Ablations: a paper's table of rows, each a few runs."""
