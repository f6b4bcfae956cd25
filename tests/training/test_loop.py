"""The loop: where budgets end it, how the learning rate follows, how it is taken up again."""

import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from fake_training import BATCH, PEAK, Fake, Uneven, checkpoint_every_step, go
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec_bench.errors import UserError
from genrec_bench.training import loop
from genrec_bench.training.checkpoints import load_training, save_training, training_checkpoints
from genrec_bench.training.loop import SMALLEST_PART
from genrec_bench.training.optimization import NotFiniteError


def test_without_a_budget_the_steps_are_counted(tmp_path: Path) -> None:
    fake = Fake()
    curves = go(fake, tmp_path, steps=4)
    assert fake.asked == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]
    assert curves["step"].tolist() == [1, 2, 3, 4]
    assert curves["share"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curves["seconds"].tolist() == [1, 2, 3, 4]
    assert curves["tokens"].tolist() == [10, 20, 30, 40]
    assert curves["flops"].tolist() == [100, 200, 300, 400]
    assert {"part", "loss", "share", "seconds", "tokens", "flops"} < set(curves.columns)


@pytest.mark.parametrize(
    ("batch", "budget", "parts"),
    [
        (BATCH, "4s", [1, 1, 1, 1]),
        (BATCH, "3.5s", [1, 1, 1, 0.5]),
        (BATCH, "3.25s", [1, 1, 1, 0.25]),
        # A part below the smallest one is taken if that ends nearer to the budget.
        (BATCH, "3.07s", [1, 1, 1, SMALLEST_PART]),
        (BATCH, "3.06s", [1, 1, 1]),
        (BATCH, "1s", [1]),
        (BATCH, "40tok", [1, 1, 1, 1]),
        (BATCH, "35tok", [1, 1, 1, 0.5]),
        (BATCH, "400flop", [1, 1, 1, 1]),
        (BATCH, "325flop", [1, 1, 1, 0.25]),
        (BATCH, "0.1kflop", [1]),
        # A single prompt may be more than what is left.
        (1, "3.4s", [1, 1, 1]),
        (1, "3.6s", [1, 1, 1, 1]),
        (4, "3.1s", [1, 1, 1]),
        (4, "3.2s", [1, 1, 1, 0.25]),
    ],
)
def test_the_last_step_is_as_large_as_what_is_left(
    tmp_path: Path, batch: int, budget: str, parts: list[float]
) -> None:
    fake = Fake()
    fake.batch = batch
    curves = go(fake, tmp_path, budget, steps=1000)
    assert curves["part"].tolist() == parts
    # No step begins when the budget is spent.
    assert all(share < 1.0 for _, share in fake.asked)
    assert curves["share"].iloc[-1] <= 1.0


@pytest.mark.parametrize("cut", [2, 4])
def test_steps_of_older_checkpoints_were_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    def save(folder: Path, step: int, modules: Any, tensors: Any, state: dict[str, Any]) -> None:
        rows = [{k: v for k, v in row.items() if k != "part"} for row in state["curves"]]
        save_training(folder, step, modules, tensors, state | {"curves": rows})

    first, second = Fake(), Fake()
    first.fail_at = cut
    with monkeypatch.context() as patch, checkpoint_every_step():
        patch.setattr(loop, "save_training", save)
        if cut < 4:
            with pytest.raises(KeyboardInterrupt):
                go(first, tmp_path, "4s")
        else:
            go(first, tmp_path, "4s")
    go(second, tmp_path, "4s")
    assert [index for index, _ in second.asked] == list(range(cut, 4))


def test_where_the_last_step_was_cheap_another_part_follows(tmp_path: Path) -> None:
    curves = go(Uneven({3: 0.5}), tmp_path, "3.5s")
    # What half a batch cost less is spent on what it pays for by the average of 3.25 s for 3.5.
    assert curves["part"].tolist() == [1, 1, 1, 0.5, round(64 * 0.25 * 3.5 / 3.25) / 64]
    assert curves["seconds"].iloc[-1] == pytest.approx(3.25 + 17 / 64)


def test_the_last_part_is_measured_by_steps_that_trained_the_same(tmp_path: Path) -> None:
    class TwoStages(Uneven):
        def step(self, index: int, share: float, part: float = 1.0) -> dict[str, float]:
            figures = super().step(index, share, part)
            return {**figures, "heads_only": 1.0} if index < 4 else figures

    # Four steps of the heads take half a second each, then a step takes one: of 4.5 s, half a step
    # is left at the end. By the average of 4 s for 6 steps it would be three quarters.
    curves = go(TwoStages(dict.fromkeys(range(4), 0.5)), tmp_path, "4.5s")
    assert curves["part"].tolist() == [1, 1, 1, 1, 1, 1, 0.5]
    assert curves["seconds"].iloc[-1] == pytest.approx(4.5)


@given(st.integers(1, 5000), st.integers(1, 50))
@settings(max_examples=50)
def test_runs_end_at_the_budget_whatever_a_step_costs(budget: int, cost: int) -> None:
    fake = Fake(flops=float(cost))
    with tempfile.TemporaryDirectory() as folder:
        if cost > budget:
            with pytest.raises(UserError, match="too small for one step"):
                go(fake, Path(folder), f"{budget}flop")
        else:
            spent = go(fake, Path(folder), f"{budget}flop")["flops"].iloc[-1]
            assert abs(spent - budget) <= cost * SMALLEST_PART / 2 + 1e-9 * budget


def test_a_budget_below_one_step_says_what_a_step_takes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--budget 4tok: too small for one step.*2\.5 times"):
        go(Fake(), tmp_path, "4tok")


@pytest.mark.parametrize("budget", [None, "20s", "200tok", "2000flop"])
def test_the_learning_rate_follows_the_share_that_is_spent(
    tmp_path: Path, budget: str | None
) -> None:
    fake = Fake()
    go(fake, tmp_path, budget, steps=20)
    # Two of twenty steps warm up; a cosine takes the rest to zero.
    assert len(fake.rates) == 20
    assert fake.rates[0] == pytest.approx(PEAK * 0.05)
    assert fake.rates[1] == pytest.approx(PEAK * 0.5)
    assert fake.rates[2] == pytest.approx(PEAK)
    assert fake.rates[11] == pytest.approx(PEAK * 0.5), "half of the way down"
    assert fake.rates[19] == pytest.approx(PEAK * 0.5 * (1 + math.cos(math.pi * 17 / 18)))
    assert fake.rates[2:] == sorted(fake.rates[2:], reverse=True)


def test_a_slow_step_takes_more_of_the_schedule(tmp_path: Path) -> None:
    fast, slow = Fake(seconds=1.0), Fake(seconds=5.0)
    go(fast, tmp_path / "fast", "20s")
    go(slow, tmp_path / "slow", "20s")
    assert [share for _, share in slow.asked] == [0.0, 0.25, 0.5, 0.75]
    assert slow.rates[2] == pytest.approx(fast.rates[10])


@pytest.mark.parametrize("budget", [None, "8s", "80tok", "800flop"])
@pytest.mark.parametrize("cut", [1, 3, 7])
def test_a_training_cut_short_goes_on_as_if_it_had_not_been(
    tmp_path: Path, budget: str | None, cut: int
) -> None:
    whole = Fake()
    expected = go(whole, tmp_path / "whole", budget, steps=8)

    first = Fake()
    first.fail_at = cut
    with checkpoint_every_step(), pytest.raises(KeyboardInterrupt):
        go(first, tmp_path / "cut", budget, steps=8)
    second = Fake()
    torch.manual_seed(99)  # the process is another one
    curves = go(second, tmp_path / "cut", budget, steps=8)

    assert second.asked == whole.asked[cut:]
    # 10 + 11 + ... + 17.
    assert second.visited == whole.visited == 108
    pd.testing.assert_frame_equal(curves, expected)
    assert torch.equal(second.model.weight, whole.model.weight)
    assert second.ledger.spent["rollout"].tokens == 80, "nothing is charged twice"
    assert second.ledger.total("seconds") == 8.0


def test_what_sft_cost_is_not_taken_over(tmp_path: Path) -> None:
    """The caller charges it anew."""
    first = Fake()
    with first.ledger.phase("sft"):
        first.ledger.charge(tokens=1000, flops=1.0)
    go(first, tmp_path, steps=2)
    second = Fake()
    with second.ledger.phase("sft"):
        second.ledger.charge(tokens=1000, flops=1.0)
    go(second, tmp_path, steps=2)
    assert second.asked == []
    assert second.ledger.spent["sft"].tokens == 1000
    assert second.ledger.total("tokens") == 20


def test_checkpoints_are_written_now_and_then_and_older_ones_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []

    def save(folder: Path, step: int, *rest: Any) -> None:
        saved.append(step)
        save_training(folder, step, *rest)

    monkeypatch.setattr(loop, "save_training", save)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 25.0
        return now

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock))
    go(Fake(), tmp_path, steps=7)
    # Every look at the clock is 25 seconds after the last: the third step is beyond the minute.
    assert saved == [0, 3, 6, 7]
    names = [path.name for path in training_checkpoints(tmp_path)]
    assert names == ["step-00000006", "step-00000007"]


def test_a_loss_without_a_value_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The weights that led there are not saved over those that did not: step 2's, not step 3's.
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    fake = Fake()
    fake.nan_at = 2
    with pytest.raises(NotFiniteError) as raised:
        go(fake, tmp_path, steps=6)
    *_, kept = training_checkpoints(tmp_path)
    assert kept.name == "step-00000002"
    said = str(raised.value)
    assert said.startswith("step 3: the loss is nan") and said.endswith(kept.name)
    assert "\n" not in said
    again = Fake()
    _, state = load_training(kept, again.modules())
    assert state["step"] == 2 and len(state["curves"]) == 2
    assert torch.isfinite(again.model.weight).all()
    assert torch.equal(again.model.weight, fake.model.weight)
