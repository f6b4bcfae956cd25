"""What the checkpoint of a training says beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from genrec_bench.errors import StorageError
from genrec_bench.storage.field_kinds import Count, Number, Word
from genrec_bench.storage.validation import Must, between, checked
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.ledger import Cost

IN_ROWS = ("step", "share", *get_args(BudgetKind))
"""What every row of curves has."""

_Byte = Annotated[int, between(0, 255)]
_Row = Annotated[
    Mapping[Word, Number],
    Must(lambda row: row.keys() >= {*IN_ROWS}, f"a row with {', '.join(IN_ROWS)}"),
]


@dataclass(frozen=True)
class _TrainingState:
    """Its keys; it may have more."""

    step: Count
    curves: tuple[_Row, ...]
    spent: Mapping[Word, Cost]
    random: Mapping[Word, tuple[_Byte, ...]]
    stepper: Mapping[Word, Annotated[int, between(-(10**9), 10**9)]]


def check_training_state(state: object, where: object) -> dict[str, Any]:
    """Return what a checkpoint of `loop.train` says.

    Raises:
        StorageError: it says something else; names `where`, the checkpoint.
    """
    found, wrong = checked(_TrainingState, state, extra="ignore")
    if found is None or not isinstance(state, dict):
        raise StorageError(f"{where}: {'; '.join(wrong)}")
    return state
