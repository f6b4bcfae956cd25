"""What is told of each row before a comparison begins: its steps, epochs and time."""

from typing import Any

import pandas as pd
import pytest
from compare_world import Compare, Sweeps
from sweep_world import Make
from test_plan import plan_of
from tiny_runs import last_error, run_folders

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import do
from genrec_bench.studies.comparison import calibration
from genrec_bench.studies.comparison.calibration import (
    Calibration,
    calibrate,
    check_pays,
    outlook,
    outlook_text,
)
from genrec_bench.studies.comparison.pace import Around, Pace, RowCost
from genrec_bench.studies.comparison.plan import PlanRow, plan_text, time_left
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.ledger import Cost

TFLOP = 1e12


def cost_of(flops: float, seconds: float = 2.0, epoch: float = 0.01) -> RowCost:
    step: dict[BudgetKind, float] = {"seconds": seconds, "flops": flops, "tokens": flops / 1e6}
    return RowCost(step, epoch, setup=3.0, look=0.01, ranking=0.04)


def test_what_a_budget_means_for_a_row() -> None:
    # 4 TFLOP at 0.02 TFLOP a step are 200 steps, at 0.1 TFLOP 40; SFT cost 2 TFLOP, or 10.
    plan = plan_of("ugr", "vstar", budgets=("8Tflop", "2Tflop", "4Tflop"))
    rows = {"ugr": cost_of(0.02 * TFLOP), "vstar": cost_of(0.1 * TFLOP, seconds=5.0)}
    pace = Pace("flops")
    ugr, vstar = outlook(plan, Calibration(Cost(flops=2 * TFLOP), rows), pace)
    assert ugr.name == "ugr" and ugr.ratio == 2.0 and ugr.steps == pytest.approx(200)
    assert ugr.epochs == pytest.approx(2.0) and ugr.step_flops == 0.02 * TFLOP
    # 200 steps of 2 s; 3 s before the first; 50 examples in looks, 100 and 200 at the end.
    around = 3.0 + 50 * 0.01 + 300 * 0.04
    assert ugr.seconds == pytest.approx(400 + around)
    assert vstar.steps == pytest.approx(40) and vstar.seconds == pytest.approx(200 + around)
    told = outlook_text([ugr, vstar])
    assert "2x" in told and told.count("warning: ") == 1
    assert told.endswith("warning: vstar: 40 steps: will hardly move; give more budget")
    poor = outlook(plan, Calibration(Cost(flops=10 * TFLOP), rows), pace)
    assert [row.ratio for row in poor] == [0.4, 0.4]
    assert "warning: ugr: 0.4 times what SFT cost: will hardly move" in outlook_text(poor)
    assert "warning: vstar: 0.4 times what SFT cost and 40 steps: will" in outlook_text(poor)
    free = outlook(plan, Calibration(Cost(), rows), pace)
    assert [row.ratio for row in free] == [None, None] and "will hardly" in outlook_text(free)


def test_a_budget_in_seconds_is_told_in_floating_point_operations_too() -> None:
    plan = plan_of("ugr", budgets=("800s", "200s", "400s"))
    known = Calibration(Cost(flops=2 * TFLOP), {"ugr": cost_of(0.02 * TFLOP)})
    (ugr,) = outlook(plan, known, Pace("seconds"))
    assert ugr.steps == 200 and ugr.ratio == pytest.approx(2.0)
    # How long a step takes now says little of what it will take: nothing is refused.
    check_pays(plan_of("ugr", budgets=("8s", "1s", "1s")), known)


def test_the_price_in_time_is_that_of_the_parts_until_the_work_says_otherwise() -> None:
    plan = plan_of("a", budgets=("8tok", "2tok", "4tok"), seeds=1)
    pace = Pace("tokens")
    pace.saw_start(Cost(seconds=5.0, tokens=1000))
    assert "Time: told once a step of each row was taken." in plan_text(plan, pace)
    step: dict[BudgetKind, float] = {"seconds": 1.0, "flops": 1.0, "tokens": 0.5}
    pace.saw_rows({row.name: RowCost(step, 0.1, 1.0, 0.01, 0.02) for row in plan.rows})
    # Training: 8 + 3 x 4 tokens at 2 s. Around: 4 trials of 1 s, 50 looks and 100 rankings; 3
    # runs with 200 rankings more.
    sweep, run = 1.0 + 0.5 + 2.0, 1.0 + 0.5 + 6.0
    assert time_left(plan, pace) == pytest.approx(40.0 + 4 * sweep + 3 * run)
    assert "Time: about 76 s." in plan_text(plan, pace)
    # The sweep took 3 s a token, and twice what was told around it.
    pace.saw("a", 8.0, 24.0, plan.around_sweep, 8 * sweep)
    left = 4 * 3.0 + 2 * 4 * 2.0 + 3 * 2 * run
    assert time_left(plan, pace, [], None) == pytest.approx(left)
    # A piece of work of which nothing is known around training does not change that.
    pace.saw("a", 0.0, 0.0, Around(0), 0.0)
    assert time_left(plan, pace, [], None) == pytest.approx(left)


def test_a_budget_below_one_step_is_refused() -> None:
    known = Calibration(Cost(), {"a": cost_of(1e9), "SFT continued": cost_of(3e9)})
    check_pays(plan_of("a", budgets=("8Gflop", "1Gflop", "4Gflop")), known)
    with pytest.raises(
        UserError,
        match=r"--budget 2Gflop: is less than one step of SFT continued, which .* 3 GF.*sft_batch",
    ):
        check_pays(plan_of("a", budgets=("8Gflop", "1Gflop", "2Gflop")), known)
    # Controls have no trials.
    with pytest.raises(UserError, match=r"--trial-budget 500Mflop: is less than one step of a"):
        check_pays(plan_of("a", budgets=("8Gflop", "500Mflop", "4Gflop")), known)


def test_a_step_of_each_row_is_taken_and_nothing_is_left_of_it(make: Make) -> None:
    context = make()
    rows = (PlanRow("grpo", "grpo", ("prompts_per_step=64",)),)
    controls = (PlanRow("SFT continued", "sft", control="SFT continued"),)
    plan = plan_of(tuned=rows, controls=controls, budgets=("8Gflop", "1Gflop", "4Gflop"))
    known = calibrate(plan, context)
    assert not context.output.exists()
    assert known.sft.flops > 0
    # 64 of 320 prompts a step, and 16 of SFT's sequences, of which there are as many here.
    assert [known.rows[row.name].epoch for row in plan.rows] == [64 / 320, 16 / 320]
    for row in plan.rows:
        record = do(row.job(0), context)
        curves = pd.read_parquet(record.with_name("curves.parquet"))
        spent = curves["flops"].diff().iloc[-1]
        # Another batch, after another first step.
        assert known.rows[row.name].step["flops"] == pytest.approx(spent, rel=0.2)
        cost = known.rows[row.name]
        assert min(cost.setup, cost.look, cost.ranking, cost.step["seconds"]) > 0


@pytest.mark.parametrize("name", ["flower", "dpo", "bear"])
def test_what_an_algorithm_does_before_its_first_step_is_done(
    make: Make, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    plan = plan_of(tuned=(PlanRow(name, name),), controls=())
    assert list(calibrate(plan, make()).rows) == [name]
    assert "Traceback" not in capfd.readouterr().err


def test_of_what_is_not_trained_no_step_is_taken(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tuned=(PlanRow("d3", "d3"), PlanRow("grpo", "grpo")), controls=())
    assert list(calibrate(plan, make()).rows) == ["grpo"]
    assert "Traceback" not in capfd.readouterr().err


def test_a_row_that_can_take_no_step_is_left_to_say_so_itself(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(row: PlanRow, *_: Any) -> RowCost:
        if row.name == "a":
            raise ValueError("no")
        return cost_of(1e9)

    monkeypatch.setattr(calibration, "_measure", fails)
    plan = plan_of(tuned=(PlanRow("a", "grpo"), PlanRow("b", "grpo")), controls=())
    assert list(calibrate(plan, make()).rows) == ["b"]


def test_a_comparison_tells_its_rows_and_refuses_before_anything_runs(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "calibrate", calibrate)
    called = compare.call("grpo", "--trial-budget", "1Mflop")
    assert called.code == 2 and not sweeps.asked and not run_folders(compare.output)
    assert last_error(called).startswith("--trial-budget 1Mflop: too small for one step of grpo")
    assert "Comparison on" not in called.err, "no plan and price of what is refused"
    # Of multiples of SFT's cost too; the start is there by now.
    told = compare.json("grpo", "--plan", "--seeds", "1", "--budget", "2xsft", *PAID)
    assert [row["name"] for row in told["rows"]] == ["grpo", "SFT continued", "random reward"]
    assert [row["ratio"] for row in told["rows"]] == [pytest.approx(2.0)] * 3
    text = compare.call("grpo", "--plan", "--seeds", "1", "--budget", "2xsft", *PAID).out
    assert "Time: about " in text and "evaluation in it" in text


PAID = ("--tuning-budget", "6xsft")
