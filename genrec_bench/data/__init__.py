"""Data: from a card to a dataset with semantic IDs."""
