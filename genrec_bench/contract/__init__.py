"""The contract's checks: what an algorithm states, and what it does in a small world."""
