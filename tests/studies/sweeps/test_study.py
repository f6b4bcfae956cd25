"""Studies: a total budget that workers share, and points that depend on no process."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError
from sweep_world import SPACE, open_study, trial_of

from genrec_bench.errors import StorageError, UserError
from genrec_bench.studies.sweeps import admission, database
from genrec_bench.studies.sweeps import study as study_module
from genrec_bench.studies.sweeps.admission import Trial, verdict
from genrec_bench.studies.sweeps.database import shown_url
from genrec_bench.studies.sweeps.halving import falls_behind
from genrec_bench.studies.sweeps.study import Study
from genrec_bench.studies.sweeps.sweep_request import SweepRequest
from genrec_bench.training.budgets import Budget, parse_exact

TOTAL = parse_exact("100tok")


def cost(tokens: float) -> dict[str, float]:
    return {"seconds": 1.0, "flops": 2.0, "tokens": tokens}


def test_the_next_trial_has_to_be_paid_for_in_full() -> None:
    spent = [trial_of("complete", 60), trial_of("failed", 20), trial_of("died", 10)]
    assert verdict(spent, TOTAL, 10) == "start", "90 + 10 <= 100"
    assert verdict([*spent, trial_of("pruned", 1)], TOTAL, 10) == "stop", "91 + 10 > 100"
    assert verdict([*spent, trial_of("running", 10)], TOTAL, 10) == "wait", "it may cost less"
    assert verdict([*spent, trial_of("refused", 0)], TOTAL, 10) == "start"
    assert verdict(spent, TOTAL, 10, most=3) == "stop"
    assert verdict([*spent, trial_of("refused", 0)], TOTAL, 10, most=4) == "start"


def test_decimal_fractions_that_add_up_are_enough() -> None:
    assert 0.1 + 0.1 + 0.1 > 0.3
    spent = [trial_of("complete", 0.1)] * 2
    assert verdict(spent, Budget("tokens", 0.3, ""), 0.1) == "start"


@settings(max_examples=100)
@given(st.data())
def test_workers_that_see_old_states_never_exceed_the_budget_together(data: st.DataObject) -> None:
    """Any order of asking, looking, deciding on what was seen, and ending with any cost."""
    most = data.draw(st.none() | st.integers(1, 8), label="most")
    trials: list[Trial] = []
    seen: dict[int, list[Trial]] = {}
    started: set[int] = set()
    for _ in range(data.draw(st.integers(1, 60), label="moments")):
        open_ = [n for n, trial in enumerate(trials) if trial.state == "running"]
        what = data.draw(st.sampled_from(["ask", "look", "decide", "end"]))
        if what == "ask":
            trials.append(trial_of("running", 10.0))
        elif what == "look" and open_:
            number = data.draw(st.sampled_from(open_))
            seen[number] = trials[:number]
        elif what == "decide" and seen:
            number = data.draw(st.sampled_from(sorted(seen)))
            if trials[number].state == "running" and number not in started:
                if verdict(seen.pop(number), TOTAL, 10.0, most) == "start":
                    started.add(number)
                else:
                    trials[number] = trial_of("refused", 0.0)
        elif what == "end" and started & set(open_):
            number = data.draw(st.sampled_from(sorted(started & set(open_))))
            state = data.draw(st.sampled_from(["complete", "pruned", "failed", "died"]))
            spent = 10.0 if state == "died" else data.draw(st.floats(0, 10))
            trials[number] = trial_of(state, spent)
        in_all = sum(trials[number].charge for number in started)
        assert in_all <= 100 * (1 + 1e-9)
        assert most is None or len(started) <= most


def test_threads_on_one_database_spend_all_that_pays_for_a_trial(tmp_path: Path) -> None:
    open_study(tmp_path)
    spent: list[float] = []

    def work(seed: int) -> None:
        study, generator = open_study(tmp_path), random.Random(seed)
        while (now := study.verdict()) != "stop":
            if now == "start":
                number = study.ask()
                if study.start(number) is not None:
                    tokens = generator.uniform(4, 10)
                    spent.append(tokens)
                    end = study.fail if generator.random() < 0.3 else study.prune
                    assert end(number, cost(tokens), "so")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 90 < sum(spent) <= 100
    trials = open_study(tmp_path).trials()
    assert sum(trial.charge for trial in trials) == pytest.approx(sum(spent))
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert sum(trial.state != "refused" for trial in trials) == len(spent)


def test_a_trial_that_is_not_paid_for_is_closed_and_costs_nothing(tmp_path: Path) -> None:
    study = open_study(tmp_path, total=parse_exact("25tok"))
    numbers = [study.ask() for _ in range(3)]
    assert [study.start(number) is None for number in numbers] == [False, False, True]
    assert [trial.state for trial in study.trials()] == ["running", "running", "refused"]
    assert study.verdict() == "wait", "20 of 25 may be spent, or less"
    assert study.complete(0, 0.5, cost(3)) and study.prune(1, cost(4), "why")
    assert study.verdict() == "start", "7 + 10 <= 25"
    first, second, third = study.trials()
    assert (first.value, first.charge, first.cost) == (0.5, 3.0, cost(3))
    assert (second.state, second.charge, second.reason) == ("pruned", 4.0, "why")
    assert third.charge == 0.0


def test_no_more_trials_start_than_allowed(tmp_path: Path) -> None:
    study = open_study(tmp_path, most=1)
    assert study.start(study.ask()) is not None
    assert study.verdict() == "wait"
    assert study.start(study.ask()) is None
    assert study.complete(0, 0.5, cost(1))
    assert study.verdict() == "stop"
    assert open_study(tmp_path, most=2).verdict() == "start", (
        "a number of trials is not the study's own"
    )


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_worker_that_starts_anew_chooses_as_if_it_had_never_stopped(
    tmp_path: Path, sampler: str
) -> None:
    def points(folder: Path, anew: bool) -> list[dict[str, Any]]:
        folder.mkdir()
        study = open_study(folder, sampler=sampler)
        for number in range(8):
            assert study.ask() == number
            if anew and number in (3, 7):
                study = open_study(folder, sampler=sampler)
            point = study.start(number)
            assert point is not None and study.start(number) == point, "and asked again, the same"
            study.complete(number, -abs(point["rate"] - 3e-3), cost(1))  # type: ignore[operator]
        return [dict(trial.point) for trial in study.trials()]

    first, second = points(tmp_path / "a", anew=False), points(tmp_path / "b", anew=True)
    assert first == second
    assert first[0] == {"rate": 1e-3, "count": 2, "divide": True}, "the defaults come first"
    assert len({point["rate"] for point in first}) == 8
    for point in first:
        assert 1e-4 <= point["rate"] <= 1e-2 and point["count"] in (1, 2, 3, 4)
    study = open_study(tmp_path / "a", "other", sampler=sampler, seed=2)
    study.ask(), study.ask()
    assert study.start(1) != first[1], "another seed"


def test_quasi_random_points_fill_the_space_evenly(tmp_path: Path) -> None:
    study = open_study(tmp_path, sampler="qmc")
    points = [study.start(study.ask()) for _ in range(9)][1:]
    # Eight points of a Sobol sequence: each eighth of a dimension holds one, each quarter two.
    counts = [point["count"] for point in points if point is not None]
    assert [counts.count(value) for value in (1, 2, 3, 4)] == [2, 2, 2, 2]


def test_halving_lets_the_better_half_go_on(tmp_path: Path) -> None:
    study = open_study(tmp_path, total=parse_exact("1ktok"))
    # At a quarter of the budget the first trial has nobody to lose against, the second loses, the
    # third wins; of four the better two would go on, and the fourth is the third best.
    values = {0: 0.5, 1: 0.4, 2: 0.6, 3: 0.45}
    pruned = {}
    for number, value in values.items():
        assert study.start(study.ask()) is not None
        assert not study.report(number, 0.13, value - 1), "too early to tell"
        pruned[number] = study.report(number, 0.26, value)
        assert study.report(number, 0.26, value) is pruned[number], "looked at again: the same"
    assert pruned == {0: False, 1: True, 2: False, 3: True}
    assert study.report(1, 0.5, 9.0), "what was decided stays so, in another process too"
    # Half of the budget is the next rung; beyond three quarters nothing is pruned.
    assert not study.report(0, 0.51, 0.5) and not study.report(2, 0.8, 0.1)
    assert not study.report(2, 0.9, float("nan"))
    study.prune(1, cost(2.6), "pruned at 26%")
    assert study.trials()[1].value == 0.4


def test_a_rung_by_hand() -> None:
    def behind(own: dict[int, float], step: int, *others: dict[int, float]) -> bool:
        return falls_behind(own, step, others)

    assert not behind({30: 0.1}, 30), "the first of all goes on"
    assert not behind({30: 0.1}, 30, {20: 0.9}), "nobody else has come to a quarter"
    assert behind({30: 0.1}, 30, {26: 0.2}) and not behind({30: 0.3}, 30, {26: 0.2})
    # Of 0.4, 0.3 and 0.2 one goes on; of 0.4, 0.3, 0.2 and 0.1 two.
    three = ({25: 0.4}, {25: 0.2})
    assert behind({30: 0.3}, 30, *three) and not behind({30: 0.3}, 30, *three, {49: 0.1})
    # What counts is the first look from a quarter on; a second one below half is at no rung.
    assert behind({30: 0.1}, 30, {26: 0.2, 40: 0.0}) and not behind({30: 0.1, 40: 0}, 40, {26: 1})
    # A look beyond half comes to both rungs, or to the second one alone.
    assert behind({60: 0.3}, 60, {26: 0.2, 52: 0.4}), "ahead at a quarter, behind at half"
    assert behind({30: 0.9, 60: 0.3}, 60, {52: 0.4}) and not behind({80: 0.1}, 80, {80: 0.2})


def test_the_trial_with_the_defaults_is_never_pruned(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for _ in range(3):
        study.ask()
    assert not study.report(1, 0.26, 0.5)
    assert not study.report(0, 0.26, 0.1), "it would come second of two"
    # It is compared with all the same: of 0.5, 0.3 and 0.1 one goes on.
    assert study.report(2, 0.26, 0.3)


def test_a_trial_killed_while_it_is_judged_is_judged_alike(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for _ in range(4):
        study.ask()
    assert not study.report(0, 0.26, 0.5)
    # Killed after the look was written down and before the verdict.
    study._open(1).report(0.4, 26)
    assert not study.report(1, 0.13, 0.2), "it goes on from an earlier checkpoint"
    assert open_study(tmp_path).report(1, 0.26, 0.4)
    # Killed once more, after the verdict and before the record: pruned where it was, not before.
    assert not open_study(tmp_path).report(1, 0.13, 0.2)
    assert open_study(tmp_path).report(1, 0.26, 0.4)
    # What was let go on goes on, whoever came to the rung since.
    assert not study.report(2, 0.26, 0.6)
    assert not study.report(3, 0.26, 0.9)
    assert not open_study(tmp_path).report(2, 0.26, 0.6)


@pytest.mark.parametrize("fails", ["get_all_trials", "record_heartbeat", "_get_stale_trial_ids"])
def test_a_database_that_falls_silent_is_asked_again_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    monkeypatch.setattr(database, "PAUSE", 0.001)
    study = open_study(tmp_path)
    assert study.start(study.ask()) is not None
    # Optuna reads trials through a cache of its own.
    asked: Any = study._study._storage if fails == "get_all_trials" else study._storage
    original, left = getattr(asked, fails), 2
    errors = (StorageInternalError("gone"), OperationalError("x", {}, Exception("gone")))

    def silent(*args: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise errors[left % 2]
        return original(*args, **named)

    def work() -> None:
        study.beat(0)
        study.bury([0])

    monkeypatch.setattr(asked, fails, silent)
    work()
    assert left < 0
    left = 1000
    with pytest.raises(
        StorageError, match=r"^the study's database does not answer: .*gone"
    ) as said:
        work()
    assert "\n" not in str(said.value)


def test_a_study_is_told_from_one_of_its_name_in_another_database(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mark = open_study(tmp_path).mark
    assert open_study(tmp_path).mark == mark != open_study(tmp_path / "other").mark
    assert open_study(tmp_path, "s2").mark != mark


def test_points_that_cost_nothing_do_not_go_on_for_ever() -> None:
    free, paid = trial_of("failed", 0), trial_of("failed", 1)
    most = admission.FREE_TRIALS
    assert verdict([free] * (most - 1), TOTAL, 10) == "start"
    assert verdict([trial_of("complete", 10), *[free] * most], TOTAL, 10) == "stop"
    assert verdict([*[free] * most, paid], TOTAL, 10) == "start"
    assert verdict([*[free] * most, trial_of("running", 10)], TOTAL, 10) == "wait"
    assert verdict([free] * most, TOTAL, 10, excused=1) == "start"


def test_without_a_pruner_nothing_is_pruned(tmp_path: Path) -> None:
    study = open_study(tmp_path, pruner="none")
    for number in range(4):
        study.ask()
        assert not study.report(number, 0.26, -number)


def test_a_trial_without_a_sign_of_life_is_dead_and_charged_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(study_module, "GRACE_SECONDS", 1)
    study = open_study(tmp_path)
    for _ in range(4):
        study.ask()
    for number in (0, 1, 2):
        study.start(number)
    study.complete(0, 0.5, cost(3))
    # The database counts whole seconds. Of the last trial nobody ever heard.
    with study.beating(lambda: [1]):
        time.sleep(2.6)
        study.bury([])
        assert [trial.state for trial in study.trials()] == [
            "complete",
            "running",
            "died",
            "running",
        ]
        time.sleep(2.6)
        study.bury([1])
    states = [trial.state for trial in study.trials()]
    assert states == ["complete", "running", "died", "died"]
    dead = study.trials()[2]
    assert (dead.charge, dead.cost) == (10.0, None) and "sign of life" in dead.reason
    assert study.complete(2, 0.5, cost(1)) is False, "its worker was alive after all"
    assert study.trials()[2].charge == 10.0
    assert study.verdict() == "start", "3 + 10 + 10 + 10 are spent at most"


def test_workers_leave_notes_for_each_other(tmp_path: Path) -> None:
    assert open_study(tmp_path).noted("mlflow") is None
    open_study(tmp_path).note("mlflow", "abc")
    assert open_study(tmp_path).noted("mlflow") == "abc"
    assert open_study(tmp_path, "other").noted("mlflow") is None


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/x.db", "nonsense", "ftp://a:b@c/d"])
def test_a_database_that_cannot_be_opened_is_named(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PAUSE", 0.001)
    with pytest.raises(UserError, match=r"^--storage .*: cannot be opened: ") as raised:
        Study(url, "s", SPACE, SweepRequest("grpo", TOTAL, TOTAL))
    assert "\n" not in str(raised.value)


def test_a_password_is_not_told() -> None:
    assert shown_url("postgresql://me:secret@host/db") == "postgresql://***@host/db"
