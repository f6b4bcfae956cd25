"""Which trials a sweep looks at, and further attempts after all of them failed."""

from pathlib import Path

from sweep_world import open_study, trial_of

from genrec_bench.studies.sweeps.admission import first_of, verdict
from genrec_bench.training.budgets import Budget, parse_exact

TOTAL = parse_exact("100tok")


def test_a_sweep_of_few_trials_looks_at_the_first_ones() -> None:
    trials = [
        trial_of("complete", 10),
        trial_of("refused", 0),
        trial_of("failed", 10),
        trial_of("running", 10),
    ]
    for most, length in ((1, 2), (2, 3), (3, 4), (4, 4), (None, 4)):
        assert first_of(trials, most) == tuple(trials[:length])
    # Those that are excused come before the first ones that count.
    more = [*trials, trial_of("complete", 1)]
    for excused, length in ((1, 3), (2, 3), (3, 4), (4, 5), (5, 5)):
        assert first_of(more, 1, excused) == tuple(more[:length])


def test_trials_that_others_made_beyond_these_are_not_waited_for() -> None:
    trials = [trial_of("complete", 10), trial_of("failed", 10), trial_of("running", 10)]
    assert verdict(trials, TOTAL, 10, most=2) == "stop"
    assert verdict(trials, TOTAL, 10, most=3) == "wait"
    assert verdict(trials, TOTAL, 10, most=4) == "start"


def test_what_is_excused_is_still_paid() -> None:
    trials = [trial_of("failed", 10), trial_of("failed", 10)]
    assert verdict(trials, TOTAL, 10, most=2) == "stop"
    assert verdict(trials, TOTAL, 10, most=2, excused=2) == "start"
    # 10 + 10 + 10 are more than 25.
    assert verdict(trials, Budget("tokens", 25, ""), 10, most=2, excused=2) == "stop"


def test_a_further_attempt_begins_with_the_defaults(tmp_path: Path) -> None:
    defaults = {"rate": 1e-3, "count": 2, "divide": True}
    first = open_study(tmp_path, most=1)
    assert first.start(first.ask()) == defaults
    assert first.fail(0, {"seconds": 1.0, "flops": 2.0, "tokens": 3.0}, "why")
    assert first.verdict() == "stop"
    first.excuse()
    # Whoever comes later knows.
    second = open_study(tmp_path, most=1)
    assert second.verdict() == "start"
    assert second.start(second.ask()) == defaults
    assert second.start(second.ask()) is None, "one trial is all that was asked for"
    assert [trial.charge for trial in second.trials()] == [3.0, 10.0, 0.0]
