"""From raw files to examples: fetched, read, filtered, split, and reported step by step."""
