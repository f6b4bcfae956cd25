"""Speed: rollout and update against the usual way and against the machine's peak."""
