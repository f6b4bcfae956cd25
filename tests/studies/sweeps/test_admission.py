"""Which trials a sweep looks at, and further attempts after all of them failed."""

from pathlib import Path
from typing import Any

from genrec_bench.studies.sweeps.admission import Trial, first_of, verdict
from genrec_bench.studies.sweeps.study import Study
from genrec_bench.training.budgets import Budget, parse_budget
from genrec_bench.training.search_space import Dimension

TOTAL = parse_budget("100tok")


def of(state: Any, charge: float) -> Trial:
    return Trial(0, state, None, {}, None, charge, "")


def test_a_sweep_of_few_trials_looks_at_the_first_ones() -> None:
    trials = [of("complete", 10), of("refused", 0), of("failed", 10), of("running", 10)]
    for most, length in ((1, 2), (2, 3), (3, 4), (4, 4), (None, 4)):
        assert first_of(trials, most) == tuple(trials[:length])
    # Those that are excused come before the first ones that count.
    more = [*trials, of("complete", 1)]
    for excused, length in ((1, 3), (2, 3), (3, 4), (4, 5), (5, 5)):
        assert first_of(more, 1, excused) == tuple(more[:length])


def test_trials_that_others_made_beyond_these_are_not_waited_for() -> None:
    trials = [of("complete", 10), of("failed", 10), of("running", 10)]
    assert verdict(trials, TOTAL, 10, most=2) == "stop"
    assert verdict(trials, TOTAL, 10, most=3) == "wait"
    assert verdict(trials, TOTAL, 10, most=4) == "start"


def test_what_is_excused_is_still_paid() -> None:
    trials = [of("failed", 10), of("failed", 10)]
    assert verdict(trials, TOTAL, 10, most=2) == "stop"
    assert verdict(trials, TOTAL, 10, most=2, excused=2) == "start"
    # 10 + 10 + 10 are more than 25.
    assert verdict(trials, Budget("tokens", 25, ""), 10, most=2, excused=2) == "stop"


def test_a_further_attempt_begins_with_the_defaults(tmp_path: Path) -> None:
    def opened() -> Study:
        return Study(
            f"sqlite:///{tmp_path}/study.db",
            "s",
            (Dimension("rate", 1e-3, low=1e-4, high=1e-2, log=True),),
            sampler="random",
            pruner="halving",
            seed=1,
            total=TOTAL,
            trial=parse_budget("10tok"),
            most=1,
        )

    first = opened()
    assert first.start(first.ask()) == {"rate": 1e-3}
    assert first.fail(0, {"seconds": 1.0, "flops": 2.0, "tokens": 3.0}, "why")
    assert first.verdict() == "stop"
    first.excuse()
    # Whoever comes later knows.
    second = opened()
    assert second.verdict() == "start"
    assert second.start(second.ask()) == {"rate": 1e-3}
    assert second.start(second.ask()) is None, "one trial is all that was asked for"
    assert [trial.charge for trial in second.trials()] == [3.0, 10.0, 0.0]
