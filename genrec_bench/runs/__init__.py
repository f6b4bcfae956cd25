"""Runs: one algorithm, one seed, one budget, one record."""
