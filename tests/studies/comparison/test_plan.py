"""What a comparison is going to cost, and how long it will take."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from genrec_bench.boards.units import with_unit
from genrec_bench.errors import UserError
from genrec_bench.studies.comparison.pace import Around, Pace, duration
from genrec_bench.studies.comparison.plan import (
    Plan,
    PlanRow,
    control_row,
    make_rows,
    more_text,
    plan_text,
    price_of,
    scaled,
    time_left,
    total_price,
)
from genrec_bench.training.budgets import parse_exact
from genrec_bench.training.ledger import Cost

SIZES = {"valid": 100, "test": 200}
CONTROLS = (
    PlanRow("SFT continued", "sft", control="SFT continued"),
    PlanRow("random reward", "grpo", ("reward=random",), control="random reward"),
)


def plan_of(
    *names: str, seeds: int = 3, budgets: tuple[str, str, str] = ("8s", "2s", "4s"), **more: Any
) -> Plan:
    tuned, controls = make_rows(names or ("a", "b"), names or ("a", "b"), CONTROLS)
    options = ("--tuning-budget", "--trial-budget", "--budget")
    tuning, trial, budget = map(parse_exact, budgets, options)
    known: dict[str, Any] = {
        "dataset": "synthetic",
        "partial": False,
        "backbone": "tiny",
        "tuned": tuned,
        "controls": controls,
        "seeds": tuple(range(seeds)),
        "tuning": tuning,
        "trial": trial,
        "budget": budget,
        "most_trials": None,
        "sampler": "tpe",
        "pruner": "halving",
        "assignments": (),
        "examples": SIZES,
        "validations": 4,
        "validation_examples": 10,
    }
    return Plan(**(known | more))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sft", "SFT continued"),
        ("bear", "bear untuned"),
        ("apao", "apao untuned"),
        ("d3", "d3 untuned"),
        ("grpo", "grpo untuned"),
        ("grpo:reward=random", "random reward"),
    ],
)
def test_only_what_repeats_sft_is_called_continued(text: str, name: str) -> None:
    context: Any = SimpleNamespace(assignments=(), preset=None)
    assert control_row(text, context).control == name


def test_the_price_is_the_sum_of_its_parts() -> None:
    # 2 sweeps of 8 s; 2 algorithms x 3 seeds x 4 s; 2 controls x 3 seeds x 4 s.
    plan = plan_of()
    assert [(part.what, part.count, part.total) for part in price_of(plan)] == [
        ("tuning", 2, 16.0),
        ("training", 6, 24.0),
        ("controls", 6, 24.0),
    ]
    assert total_price(plan) == 64.0
    told = json.loads(json.dumps(plan.as_dict()))
    assert told["total"] == 64.0 and told["tuning"] == "8s" and told["seeds"] == [0, 1, 2]


def test_runs_come_seed_by_seed_with_the_controls_in_each_round() -> None:
    assert plan_of("a", seeds=2).runs == (
        ("a", 0),
        ("SFT continued", 0),
        ("random reward", 0),
        ("a", 1),
        ("SFT continued", 1),
        ("random reward", 1),
    )


def test_sft_that_is_tuned_is_no_control() -> None:
    plan = plan_of("sft", "grpo")
    assert [row.name for row in plan.controls] == ["random reward"]
    # GRPO that is tuned is not GRPO with a random reward.
    assert [row.name for row in plan_of("grpo").controls] == ["SFT continued", "random reward"]
    with pytest.raises(UserError, match="--algorithms: a is given twice"):
        make_rows(("a", "b", "a"), ("a", "b", "./a.py"), CONTROLS)


@pytest.mark.parametrize(
    ("budgets", "most", "trials"),
    [
        (("8s", "2s", "4s"), None, 4),
        (("8s", "3s", "4s"), None, 2),
        (("8s", "3s", "4s"), 1, 1),
        (("8s", "3s", "4s"), 9, 2),
        # 0.3 / 0.1 is 2.9999999999999996 in binary.
        (("0.3Tflop", "0.1Tflop", "1Tflop"), None, 3),
    ],
)
def test_a_sweep_is_sure_of_as_many_trials_as_it_pays_for(
    budgets: tuple[str, str, str], most: int | None, trials: int
) -> None:
    plan = plan_of(budgets=budgets, most_trials=most)
    assert plan.trials == trials
    # A trial: 100 of valid at its end, and looks at 10 of them, at the start and 4 times.
    assert plan.around_sweep == Around(trials * 150, looked=trials * 50, runs=trials)
    # A run: 200 of test beside.
    assert plan.around_run == Around(350, looked=50, runs=1)
    assert plan_of(validations=0).around_run == Around(300, runs=1)


def test_budgets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"--tuning-budget 8s and --budget 4tok: must be of one"):
        plan_of(budgets=("8s", "2s", "4tok"))
    with pytest.raises(UserError, match=r"--trial-budget 2tok and --budget 4s: must be of one"):
        plan_of(budgets=("8s", "2tok", "4s"))
    with pytest.raises(UserError, match=r"--trial-budget 9s: is more than --tuning-budget 8s"):
        plan_of(budgets=("8s", "9s", "4s"))


@pytest.mark.parametrize(
    ("text", "share", "wanted"),
    [("1Tflop", 0.5, "500Gflop"), ("90s", 4.0, "360s"), ("20Mtok", 0.25, "5Mtok")],
)
def test_a_share_of_a_budget_is_a_budget(text: str, share: float, wanted: str) -> None:
    found = scaled(parse_exact(text), share, "--tuning-budget")
    assert found.text == wanted and found.option == "--tuning-budget"


def test_time_follows_from_what_was_seen() -> None:
    plan = plan_of(budgets=("8tok", "2tok", "4tok"))
    pace = Pace("tokens")
    assert time_left(plan, pace) is None
    assert "not known before the SFT start is trained" in plan_text(plan, pace)
    # The SFT start: 10 tokens in 5 s, so half a second a token; 100 rankings in 1 s.
    pace.saw_start(Cost(seconds=5.0, tokens=10))
    assert not pace.knows_evaluation and time_left(plan, pace) == pytest.approx(32.0)
    pace.saw_evaluation(100, 1.0)
    # Training: 64 tokens, 32 s. Rankings: 2 sweeps x 4 trials x 150 and 12 runs x 350 are 5400.
    assert time_left(plan, pace) == pytest.approx(32.0 + 54.0)
    # `a` takes 2 s a token, and 100 more rankings took 4 s more: 5 s for 200.
    pace.saw("a", 4.0, 8.0, Around(100), 4.0)
    # Of `b` nothing is known: another row is a better guess than the SFT start.
    assert time_left(plan, pace, ["b"], []) == pytest.approx(8 * 2.0 + 600 * 0.025)
    pace.saw("b", 4.0, 4.0, Around(0), 0.0)
    assert time_left(plan, pace, ["b"], []) == pytest.approx(8 * 1.0 + 600 * 0.025)
    assert time_left(plan, pace, [], [("a", 0)]) == pytest.approx(4 * 2.0 + 350 * 0.025)
    assert time_left(plan, pace, [], []) == 0.0


def test_seconds_say_themselves_what_they_take() -> None:
    plan, pace = plan_of(), Pace("seconds")
    assert time_left(plan, pace) == 64.0
    assert "Time: about 64 s, and what evaluation takes." in plan_text(plan, pace)
    pace.saw("a", 4.0, 40.0, Around(10), 1.0)
    assert time_left(plan, pace, [], [("a", 0)]) == pytest.approx(4.0 + 35.0)


def test_the_plan_as_it_is_told() -> None:
    told = plan_text(plan_of("ugr", budgets=("3Tflop", "1Tflop", "2Tflop")), Pace("flops"))
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert lines[0] == "Comparison on synthetic, backbone tiny"
    assert lines[4:8] == [
        "tuning sweeps: ugr 1 3 TFLOP 3 TFLOP",
        "training best configurations x 3 seeds 3 2 TFLOP 6 TFLOP",
        "controls SFT continued, random reward x 3 seeds 6 2 TFLOP 12 TFLOP",
        "in all 21 TFLOP",
    ]
    assert "A sweep: trials of 1Tflop, 3 or more; sampler: tpe, pruner: halving;" in told
    few = plan_of("ugr", most_trials=2)
    assert "A sweep: 2 trials of 2s;" in plan_text(few, Pace("seconds"))
    assert "(partial)" in plan_text(plan_of(partial=True), Pace("seconds"))


def test_without_trials_every_algorithm_keeps_its_defaults() -> None:
    plan = plan_of("a", "b", most_trials=0, budgets=("8tok", "2tok", "4tok"))
    assert plan.trials == 0 and plan.sweeps == () and len(plan.tuned) == 2
    assert [(part.what, part.total) for part in price_of(plan)] == [
        ("tuning", 0.0),
        ("training", 24.0),
        ("controls", 24.0),
    ]
    pace = Pace("tokens")
    pace.saw_start(Cost(seconds=5.0, tokens=10))
    assert time_left(plan, pace) == pytest.approx(48 * 0.5)
    told = plan_text(plan, pace)
    assert "Nothing is tuned: every algorithm has its default hyperparameters." in told
    assert "sweep" not in told and "a, b x 3 seeds" in told


def test_what_the_full_comparison_has_that_a_quick_one_lacks() -> None:
    budgets = ("8tok", "2tok", "4tok")
    full, pace = plan_of("a", budgets=budgets, seeds=5), Pace("tokens")
    quick = plan_of("a", budgets=budgets, seeds=3, most_trials=0, budget=parse_exact("1tok"))
    assert more_text(quick, full, pace) == (
        "The full comparison, without --quick, adds tuning of every algorithm (4 trials of 2 tok "
        "each, or more); 4 times the budget for every run; 5 seeds a row instead of 3. It costs "
        "68 tok."
    )
    pace.saw_start(Cost(seconds=5.0, tokens=10))
    fewer = plan_of("a", budgets=budgets, seeds=5, controls=CONTROLS[:1])
    assert more_text(fewer, full, pace) == (
        "The full comparison, without --quick, adds the control random reward. It costs 68 tok, "
        "about 34 s here."
    )
    assert more_text(full, full, pace).startswith("The full comparison, without --quick, is the s")


def test_amounts_and_times_are_for_people() -> None:
    assert [with_unit(1.5e12, "flops"), with_unit(2e15, "flops"), with_unit(0.0, "flops")] == [
        "1.5 TFLOP",
        "2 PFLOP",
        "0 FLOP",
    ]
    assert [with_unit(20e6, "tokens"), with_unit(90.0, "seconds")] == ["20 Mtok", "90 s"]
    assert [duration(s) for s in (0.4, 119, 150, 7000, 8000)] == [
        "0 s",
        "119 s",
        "2 min",
        "117 min",
        "2 h 13 min",
    ]
