"""Decoding: how a candidate tree grows."""
