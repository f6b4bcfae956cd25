"""What is refused before anything is made: choices that do not fit each other, or the data.

All commands ask here, by `jobs.configure` and `jobs.request_of`, and so whatever is added here is
refused everywhere, before data are fetched or an SFT start is trained.
"""

from __future__ import annotations

from pathlib import Path

from genrec_bench.errors import UserError
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.group_credit import needs_company
from genrec_bench.training.hyperparameters import check_against
from genrec_bench.training.own_metrics import load_metrics
from genrec_bench.training.settings import Settings

LOOKED_AT = 10_000
"""Steps in which a copy of the policy may move."""


def check_choices(name: str, algorithm: Algorithm, settings: Settings) -> None:
    """Make sure that an algorithm's hyperparameters and the settings fit each other.

    Raises:
        UserError: naming both, and what would be right; or a file of metrics cannot be used.
    """
    if settings.group_size == 1 and needs_company(algorithm):
        raise UserError(
            f"group_size=1: {name} compares candidates with the others of their group, so that a "
            "group of one teaches nothing; set group_size=2 or more"
        )
    if settings.prompts_per_step < algorithm.minibatches:
        raise UserError(
            f"prompts_per_step={settings.prompts_per_step}: must be at least "
            f"minibatches={algorithm.minibatches}, one for each"
        )
    if settings.lora_rank and _moves_a_copy(algorithm):
        raise UserError(
            f"lora_rank={settings.lora_rank}: {name} moves a copy of the policy, such as its "
            "reference, and none can follow adapters; set lora_rank=0 or keep the copy as it is"
        )
    check_against(algorithm.hyperparameters, settings)
    if settings.metrics:
        load_metrics(Path(settings.metrics))


def _moves_a_copy(algorithm: Algorithm) -> bool:
    """Return whether reference or opponent follow the policy in any of the first steps."""
    mixes = [
        *([algorithm.reference_mix] if algorithm.uses_reference else []),
        *([algorithm.opponent_mix] if algorithm.uses_opponent else []),
    ]
    return any(mix(step) for mix in mixes for step in range(1, LOOKED_AT + 1))
