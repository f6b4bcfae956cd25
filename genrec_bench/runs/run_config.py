"""A run as a file that can be read, printed and changed, or as the record of an earlier one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrec_bench.runs.jobs import Job
    from genrec_bench.runs.preset_files import Preset

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class RunConfig:
    """What is asked for of a run; None stands for what the command line or a default says.

    Attributes:
        backbone: name, folder or hub name.
        budget: as ``--budget`` takes it; None for a number of steps.
        preset: for what is said nowhere else.
        set: hyperparameters and settings by name.
    """

    algorithm: str | None = None
    dataset: str | None = None
    backbone: str | None = None
    budget: str | None = None
    seed: int | None = None
    preset: str | None = None
    set: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)

    def defaults(self) -> dict[str, Any]:
        """Return what is said, by the names of options, without ``set``."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del values["set"]
        return {name: value for name, value in values.items() if value is not None}


def read_config(path: Path) -> RunConfig:
    """Read a file in YAML or JSON; its keys are those of `RunConfig`.

    Raises:
        UserError: it cannot be read; the message names file and key.
    """
    from genrec_bench.storage.strict_yaml import parse_yaml
    from genrec_bench.storage.text_files import read_text
    from genrec_bench.storage.validation import validated

    text = read_text(path, f"--config {path}")
    return validated(RunConfig, parse_yaml(text, f"--config {path}"), f"--config {path}")


def config_of(record: Mapping[str, Any]) -> RunConfig:
    """Return what a record's run was asked for.

    Raises:
        UserError: nothing was run: it is of an outside system.
    """
    from genrec_bench.errors import UserError
    from genrec_bench.runs.preset_files import preset_names
    from genrec_bench.runs.record_schema import EXTERNAL
    from genrec_bench.training.settings import as_asked

    if record.get("kind") == EXTERNAL:
        raise UserError(f"{record['run_id']}: is of an outside system, which was not run here")
    configuration, preset = record["configuration"], record.get("preset")
    return RunConfig(
        algorithm=record["algorithm"],
        dataset=record["dataset"],
        backbone=record["track"]["backbone"],
        budget=record["budget"]["limit"],
        seed=record["seed"],
        # Of another file only its name is known; the values are all there.
        preset=preset["name"] if preset and preset["name"] in preset_names() else None,
        set={**configuration["hyperparameters"], **as_asked(configuration["settings"])},
    )


def config_text(
    job: Job,
    backbone: str,
    budget: str | None,
    dataset: str,
    words: Sequence[str],
    preset: Preset | None = None,
) -> str:
    """Write a run as a file that `read_config` reads, all hyperparameters and settings included.

    Args:
        words: of ``--set``.

    Raises:
        UserError: the algorithm cannot be used, or a word fits neither.
    """
    import yaml

    from genrec_bench.runs.jobs import configured
    from genrec_bench.training.settings import as_asked

    entry, algorithm, settings = configured(job, words, preset)
    head = {
        "algorithm": job.algorithm,
        "dataset": dataset,
        "backbone": backbone,
        "budget": budget,
        "seed": job.seed,
    }
    if preset is not None:
        head["preset"] = preset.given
    shared = as_asked(settings.resolved())
    if settings.epochs:
        del shared["steps"]
        shared["epochs"] = settings.epochs
    parts = {
        f"hyperparameters of {entry.name}": dataclasses.asdict(algorithm.hyperparameters),
        "settings of every run": shared,
    }
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True) + "set:\n"
    for title, values in parts.items():
        text += f"  # {title}\n"
        text += "".join(f"  {name}: {json.dumps(value)}\n" for name, value in values.items())
    return text
