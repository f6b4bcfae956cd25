"""What an SFT start will cost, told before it is trained: a little of its work is measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from genrec_bench.data.dataset import Dataset
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import duration
from genrec_bench.training.evaluate import LOOK_BEAM, ranked_leaves
from genrec_bench.training.ledger import Cost, Ledger
from genrec_bench.training.settings import Settings
from genrec_bench.training.supervised_steps import SupervisedStepper
from genrec_bench.training.workers import Workers

ENOUGH = 0.5
"""Seconds of work after which its speed is known."""


def sft_price(
    policy: Policy,
    dataset: Dataset,
    settings: Settings,
    stepper: SupervisedStepper,
    workers: Workers,
) -> str:
    """Say in words what SFT costs at most, and how long it takes on this machine.

    The policy, its gradients and torch's random numbers are left as they were.
    """
    before = policy.meter
    device = workers.device
    policy.meter = ledger = Ledger(device)
    examples = dataset.valid
    looked = min(settings.sft_valid_examples, len(examples))

    def rank(count: int) -> None:
        policy.eval()
        prompts = policy.prompt_format.encode(examples, np.arange(count))
        ranked_leaves(policy, prompts.to(device), LOOK_BEAM, None)

    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            learning = _of_one(ledger, "sft", stepper.rehearse, min(stepper.batch, len(stepper)))
            ranking = _of_one(ledger, "evaluation", rank, looked)
    finally:
        policy.meter = before
    sequences = settings.sft_epochs * len(stepper)
    looks = settings.sft_epochs * settings.sft_evaluations * looked
    seconds = (sequences * learning.seconds + looks * ranking.seconds) / workers.count
    return (
        f"at most {settings.sft_epochs:g} epochs, {sequences * learning.flops / 1e12:.3g} TFLOP, "
        f"about {duration(seconds)} with its looks"
    )


def _of_one(ledger: Ledger, phase: str, work: Callable[[int], None], most: int) -> Cost:
    """Return what one piece of work costs, by as many as make the measurement good."""
    count = 1
    while True:
        spent = ledger.spent.get(phase, Cost())
        with ledger.phase(phase):
            work(count)
        now = ledger.spent[phase]
        seconds, flops = now.seconds - spent.seconds, now.flops - spent.flops
        # The first piece also warms up.
        if seconds > ENOUGH or count >= most:
            return Cost(seconds=seconds / count, flops=flops / count)
        count = min(2 * count, most)
