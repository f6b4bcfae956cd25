"""Studies: pieces of work made of many runs."""
