"""MLflow at arm's length: it hears of every run, and can neither stop nor slow one."""
