"""Looks at validation data while training, and limits that are never exceeded."""

from pathlib import Path

import pandas as pd
import pytest
from fake_training import Fake, Uneven, checkpoint_every_step, go

from genrec_bench.training.loop import Pruned, Watch


class Looks:
    """Says at which steps it looked; its look costs what evaluation costs."""

    def __init__(self, fake: Fake, count: int, prune_at: float = 2.0) -> None:
        self.fake, self.prune_at = fake, prune_at
        self.steps: list[int] = []
        self.told: list[tuple[float, float]] = []
        self.watch = Watch(count, self.look, self.hear)

    def look(self, step: int) -> dict[str, float]:
        self.steps.append(step)
        with self.fake.ledger.phase("evaluation"):
            self.fake.ledger.charge(tokens=1000, flops=1e9)
            self.fake.clock.now += 50.0
        return {"valid/NDCG@10": step / 100}

    def hear(self, share: float, figures: dict[str, float]) -> None:
        self.told.append((share, figures["valid/NDCG@10"]))
        if share >= self.prune_at:
            raise Pruned(f"at {share:.2f}")


def test_a_watch_looks_at_equal_shares_and_costs_no_budget(tmp_path: Path) -> None:
    fake = Fake()
    looks = Looks(fake, 4)
    curves = go(fake, tmp_path, "10s", watch=looks.watch)
    # Steps take a tenth each; quarters are behind steps 3, 5, 8 and 10.
    assert looks.steps == [0, 3, 5, 8, 10]
    assert looks.told == [(0.3, 0.03), (0.5, 0.05), (0.8, 0.08), (1.0, 0.1)]
    assert curves["step"].tolist() == list(range(11))
    looked = curves["valid/NDCG@10"].dropna()
    assert looked.index.tolist() == looks.steps and looked.tolist() == [0, 0.03, 0.05, 0.08, 0.1]
    for name in ("seconds", "flops", "tokens", "share"):
        assert curves[name].iloc[0] == 0.0
    assert curves["seconds"].iloc[-1] == fake.ledger.total("seconds") == 10.0
    assert fake.ledger.spent["evaluation"].tokens == 5000


def test_a_watch_looks_once_where_the_end_is_a_share_too(tmp_path: Path) -> None:
    fake = Fake(seconds=3.0)
    looks = Looks(fake, 8)
    go(fake, tmp_path, "10s", watch=looks.watch)
    # Steps of three seconds and a part: several eighths lie within each, and the last is the end.
    assert looks.steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_watched_training_that_was_cut_short_ends_as_if_it_had_not_been(
    tmp_path: Path, cut: int
) -> None:
    whole = Fake()
    expected = go(whole, tmp_path / "whole", "10s", watch=Looks(whole, 4).watch)
    first = Fake()
    first.fail_at = cut
    with checkpoint_every_step(), pytest.raises(KeyboardInterrupt):
        go(first, tmp_path / "cut", "10s", watch=Looks(first, 4).watch)
    second = Fake()
    looks = Looks(second, 4)
    curves = go(second, tmp_path / "cut", "10s", watch=looks.watch)
    pd.testing.assert_frame_equal(curves, expected)
    assert looks.steps == [step for step in (3, 5, 8, 10) if step > cut]
    for phase, cost in whole.ledger.spent.items():
        found = second.ledger.spent[phase]
        assert (found.seconds, found.tokens, found.flops) == (cost.seconds, cost.tokens, cost.flops)


def test_a_watch_can_end_a_training(tmp_path: Path) -> None:
    fake = Fake()
    curves: list[dict[str, float]] = []
    with pytest.raises(Pruned, match=r"at 0\.50"):
        go(fake, tmp_path, "10s", watch=Looks(fake, 4, 0.5).watch, curves=curves)
    assert [row["step"] for row in curves] == [0, 1, 2, 3, 4, 5]
    assert curves[-1]["valid/NDCG@10"] == 0.05
    assert fake.ledger.total("seconds") == 5.0


@pytest.mark.parametrize(("seconds", "taken"), [(3.0, 3), (2.5, 4), (4.0, 2), (6.0, 1)])
def test_a_strict_limit_is_never_exceeded(tmp_path: Path, seconds: float, taken: int) -> None:
    fake = Fake(seconds=seconds)
    go(fake, tmp_path, "10s", strict=True)
    assert len(fake.asked) == taken


def test_a_strict_limit_reserves_the_largest_step_so_far(tmp_path: Path) -> None:
    fake = Uneven({1: 5.0})
    go(fake, tmp_path / "whole", "12.5s", strict=True)
    # 1, 6, 7: after that 5 are left, and an 8th would leave 4.
    assert fake.ledger.total("seconds") == 8.0
    first = Uneven({1: 5.0})
    first.fail_at = 2
    with checkpoint_every_step(), pytest.raises(KeyboardInterrupt):
        go(first, tmp_path / "cut", "12.5s", strict=True)
    second = Uneven({1: 5.0})
    go(second, tmp_path / "cut", "12.5s", strict=True)
    assert second.ledger.total("seconds") == 8.0, "what was largest is not forgotten"
