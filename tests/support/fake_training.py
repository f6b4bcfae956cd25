"""A training of known cost on a model of two weights, under a clock that moves when told to."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from genrec_bench.progress import Progress
from genrec_bench.training import loop
from genrec_bench.training.budgets import parse_exact
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.loop import Limit, Watch, train
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.workers import Workers

PEAK = 0.5
BATCH = 64


class Clock:
    """Stands still until it is told to move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """Takes steps of known cost on a model of two weights; can fail in the middle of one."""

    def __init__(self, *, seconds: float = 1.0, tokens: int = 10, flops: float = 100.0) -> None:
        torch.manual_seed(0)
        self.clock = Clock()
        self.ledger = Ledger(torch.device("cpu"), self.clock)
        self.model = nn.Linear(2, 1, bias=False)
        self.optimization = Optimization(
            self.model,
            Workers(),
            learning_rate=PEAK,
            weight_decay=0.0,
            warmup=0.1,
            max_grad_norm=1.0,
        )
        self.batch = BATCH
        self.cost = (seconds, tokens, flops)
        self.fail_at: int | None = None
        self.nan_at: int | None = None
        self.asked: list[tuple[int, float]] = []
        self.rates: list[float] = []
        self.visited = 0

    def state(self) -> dict[str, int]:
        return {"visited": self.visited}

    def load(self, state: Mapping[str, int]) -> None:
        self.visited = state["visited"]

    def begin(self) -> None:
        pass

    def memory(self) -> dict[str, torch.Tensor]:
        return {}

    def remember(self, tensors: Mapping[str, torch.Tensor]) -> None:
        assert not tensors

    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.model}

    def step(self, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        self.asked.append((index, share))
        # A batch of this many prompts, so that parts of it are whole prompts.
        part = max(1, round(part * self.batch)) / self.batch
        seconds, tokens, flops = (amount * part for amount in self.cost)
        with self.ledger.phase("rollout"):
            # Drawn from the generator that a resumption has to restore.
            inputs = torch.randn(4, 2)
            self.ledger.charge(tokens=round(tokens), flops=flops)
            self.clock.now += seconds
        if index == self.fail_at:
            raise KeyboardInterrupt
        with self.ledger.phase("update"):
            loss = self.model(inputs).square().mean()
            if index == self.nan_at:
                loss = loss * torch.nan
            loss.backward()
            self.optimization.step(share, float(loss.detach()), f"step {index + 1}")
        self.rates.append(self.optimization.optimizer.param_groups[0]["lr"])
        self.visited += 10 + index
        return {"part": part, "loss": float(loss.detach())}


class Uneven(Fake):
    """Some of its steps, by their indices, take other than a second."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        super().__init__()
        self.seconds = seconds

    def step(self, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        self.cost = (self.seconds.get(index, 1.0), 10, 100.0)
        return super().step(index, share, part)


def go(
    fake: Fake,
    folder: Path,
    budget: str | None = None,
    steps: int = 5,
    watch: Watch | None = None,
    strict: bool = False,
    curves: list[dict[str, float]] | None = None,
) -> pd.DataFrame:
    limit = Limit(parse_exact(budget) if budget else None, steps, strict)
    ledger, workers, quiet = fake.ledger, Workers(), Progress(quiet=True)
    return train(fake, fake.optimization, ledger, limit, workers, folder, quiet, watch, curves)


@contextlib.contextmanager
def checkpoint_every_step() -> Iterator[None]:
    """Save after each step, so that there is something to break."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
        yield
