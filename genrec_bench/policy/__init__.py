"""The policy: a language model that speaks semantic IDs, and the candidate tree it is read by."""
