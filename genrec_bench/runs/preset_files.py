"""Presets: a paper's own settings as a file that can be read, printed and changed.

The files lie in the folder ``presets``; one of one's own is given by its path. A preset is the
lowest layer of what a run is asked for: whatever is typed wins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.digests import content_digest
from genrec_bench.storage.strict_yaml import parse_yaml
from genrec_bench.storage.text_files import read_text
from genrec_bench.storage.validation import Must, PlainName, is_plain_name, validated

SUFFIX = ".yaml"

LENGTHS = ("steps", "epochs")
"""Settings that say how long a run is; one that is typed takes the place of a preset's other."""

Scalar = bool | int | float | str | None
Values = Mapping[str, Scalar]
Text = Annotated[str, Must(bool, "a text that is not empty")]


@dataclass(frozen=True)
class PresetFile:
    """All that a file says.

    Attributes:
        source: where its numbers are told.
        algorithm: the paper's own.
        hardware: the paper's; empty where it tells none.
        set: settings of every run, and hyperparameters that every algorithm has.
        algorithms: hyperparameters of some, by the algorithm's name.
    """

    title: Text
    source: Text
    algorithm: PlainName
    backbone: Text
    hardware: str = ""
    set: Values = dataclasses.field(default_factory=dict)
    algorithms: Mapping[PlainName, Values] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A preset that was read.

    Attributes:
        given: as it was asked for: a name, or a path.
        name: that of the file.
        text: of the file, for people.
        sha256: of the text.
    """

    given: str
    name: str
    text: str
    sha256: str
    says: PresetFile

    def words(self, algorithm: str, typed: Collection[str]) -> dict[str, str]:
        """Return its words of ``--set`` for an algorithm, without what is typed beside it.

        Args:
            typed: names of hyperparameters and settings that are given otherwise.
        """
        values = {**self.says.set, **self.says.algorithms.get(algorithm, {})}
        ends = any(name in typed for name in LENGTHS)
        return {
            name: str(value).lower() if value is None or isinstance(value, bool) else str(value)
            for name, value in values.items()
            if name not in typed and not (ends and name in LENGTHS)
        }

    def check(self, algorithm: str, names: Collection[str]) -> None:
        """Make sure that it names nothing that an algorithm does not have.

        Args:
            names: of the algorithm's hyperparameters.

        Raises:
            UserError: naming file and key.
        """
        for name in self.says.algorithms.get(algorithm, {}):
            if name not in names:
                raise UserError(
                    f"preset {self.given}: algorithms.{algorithm}.{name}: is no hyperparameter of "
                    f"{algorithm}{nearest(name, names)}"
                )


def preset_names() -> list[str]:
    """Return the names of the package's own presets, sorted."""
    entries = (entry.name for entry in _folder().iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in entries if name.endswith(SUFFIX))


def load_preset(given: str) -> Preset:
    """Read and check a preset, given by its name or by its file.

    Raises:
        UserError: there is none, or the file is not as it should be (names file and key).
    """
    if given.endswith(SUFFIX) or not is_plain_name(given):
        name, where = Path(given).stem, f"preset {given}"
        text = read_text(Path(given), where)
    else:
        names = preset_names()
        if given not in names:
            raise UserError(
                f"unknown preset {given!r}{nearest(given, names)}; the presets are "
                f"{', '.join(names)}, or a file of your own: ./mine{SUFFIX}"
            )
        name, where = given, f"presets/{given}{SUFFIX}"
        text = (_folder() / f"{given}{SUFFIX}").read_text(encoding="utf-8")
    says = validated(PresetFile, parse_yaml(text, where), where)
    _check(says, where)
    return Preset(given, name, text, content_digest(text), says)


def _folder() -> Traversable:
    return files("genrec_bench") / "runs" / "presets"


def _check(says: PresetFile, where: str) -> None:
    """Raise UserError where ``set`` has what not every run has."""
    from genrec_bench.training.hyperparameters import Hyperparameters
    from genrec_bench.training.settings import SETTING_NAMES

    known = [*SETTING_NAMES, *(field.name for field in dataclasses.fields(Hyperparameters))]
    for name in says.set:
        if name not in known:
            raise UserError(
                f"{where}: set.{name}: is no setting of every run{nearest(name, known)}; "
                "hyperparameters of one algorithm belong under algorithms"
            )
    if all(says.set.get(name) for name in LENGTHS):
        raise UserError(f"{where}: set: give {' or '.join(LENGTHS)}, and not both")
