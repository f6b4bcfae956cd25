"""Sweeps: hyperparameters tuned within a total budget that several workers may share."""
