"""Work that is begun again in smaller passes where memory did not suffice.

Nothing is learned from a batch before all of its passes are done, so a batch can be begun again.
The passes are then half as large, for the rest of the process; how they are cut changes no result.
What the failed attempt computed is not charged: a budget would end elsewhere on a smaller machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy
from genrec_bench.training.ledger import Cost, Ledger

T = TypeVar("T")

FEWEST = 16
"""Tokens of a pass that are not halved again: a prompt is not cut."""

_ON_A_CPU = ("can't allocate memory", "not enough memory")
"""What torch says, in an error of no kind of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ON_A_CPU)


def forget(policy: Policy) -> None:
    """Drop the gradients that were added up."""
    for parameter in policy.parameters():
        parameter.grad = None


def in_smaller_passes(
    policy: Policy, work: Callable[[], T], undo: Callable[[], object] = lambda: None
) -> T:
    """Do some work, and all of it again in passes of half the size whenever memory runs out.

    Args:
        policy: its ``tokens_per_forward`` is what is halved.
        work: cuts what it does by that number, and must talk to no other process.
        undo: takes back what an attempt left that failed.

    Raises:
        UserError: passes cannot be smaller.
    """
    meter = policy.meter
    while True:
        before: Mapping[str, Cost] = meter.spent if isinstance(meter, Ledger) else {}
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            tokens = policy.tokens_per_forward
            if tokens // 2 < FEWEST:
                raise UserError(
                    f"memory does not suffice for passes of {tokens} tokens; take a smaller model, "
                    "lora_rank=16, checkpointing=on, or fewer prompts of a step"
                ) from None
        # Outside of the clause above, as the error holds on to all that was computed.
        undo()
        if isinstance(meter, Ledger):
            meter.take_back(before)
        policy.tokens_per_forward = tokens // 2
        if policy.device.type == "cuda":
            torch.cuda.empty_cache()
