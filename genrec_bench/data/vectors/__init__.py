"""Vectors of items, for semantic IDs and for rewards."""
