"""MLflow as a view of the folders of runs: it can be made at any time, and no run waits for it."""
