"""The whole protocol as one job: equal tuning, fresh seeds, controls, a board."""
