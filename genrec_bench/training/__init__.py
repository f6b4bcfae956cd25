"""Training: the contract of an algorithm, and the loop that any of them is trained by."""
