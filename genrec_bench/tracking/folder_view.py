"""What the folder of a run says to MLflow: what the run is, its figures, its files, how it ended.

`tracking.json` marks a folder that MLflow is to know. It holds what the run is, and its end once
the process has told it. All else is read from what the run writes for itself: its checkpoints while
it goes on, then its record and curves. Whoever works in a folder holds a lock on it, which the
system frees if the process dies. A folder without a lock and without an end is that of a dead run.

Folders may come from strangers: nothing is read that is not a file of the folder's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, get_args

import pyarrow as pa

from genrec_bench.errors import StorageError, UserError, told_values
from genrec_bench.runs.record_schema import Record
from genrec_bench.runs.records import RECORD_FILE, read_record
from genrec_bench.runs.run_folder import CHECKPOINTS
from genrec_bench.storage.bounded_json import decode_json
from genrec_bench.storage.confined import Foreign, check_own, own_bytes
from genrec_bench.storage.field_kinds import Line, Word
from genrec_bench.storage.files import write_atomically
from genrec_bench.storage.locks import read_mark
from genrec_bench.storage.parquet import read_frame
from genrec_bench.storage.validation import Must, checked, one_of
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.checkpoints import STATE, training_checkpoints
from genrec_bench.training.loop import PRUNED
from genrec_bench.training.training_state import check_training_state

TRACKING_FILE = "tracking.json"

OURS = "genrec-bench/"
"""What names of experiments begin with."""

FILES = (
    RECORD_FILE,
    "table.md",
    "table.csv",
    "figure.pdf",
    "figure.png",
    "figure.svg",
    "analysis.json",
    "board.csv",
    "board.html",
    "board.md",
)
"""The files of a folder that MLflow gets, as far as they are there."""

SENT_FILE = ".tracking.sent"
"""Its content is the end that was sent last."""

LOOK = "look/"
"""What keys of looks begin with. They are at a few validation examples: a final figure, which is
over all, would end their curve in a step that the policy never took."""

SPENT = ("share", "part", *get_args(BudgetKind))
"""Curves that say what was spent, and stand apart from those of what is learned."""

LAST_TRIES, LAST_PAUSE = 5, 0.05
"""How often the last one to work in a folder makes sure of that, and seconds in between."""


MOST_BYTES = 64 * 2**20
"""Of a file that is read or sent."""

LATEST = 2**53
"""Milliseconds and steps from which on a number is none."""

MOST_ENTRIES = 10_000
"""Of parameters, those within others included."""

WORDS = ("experiment", "name", "params", "tags")
"""What MLflow shows of a run, and people may have written secrets into."""

ENDS = ("complete", "failed", "pruned", "interrupted")

Milliseconds = Annotated[int, Must(lambda value: 0 <= value < LATEST, "a moment in milliseconds")]


def _are_few(params: Mapping[str, Any]) -> bool:
    """Return whether parameters are no more than one can send."""
    left: list[Any] = [params]
    for _ in range(MOST_ENTRIES):
        if not left:
            return True
        one = left.pop()
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return False


def _is_above(parent: Sequence[str]) -> bool:
    """Return whether a parent's folder is one that its child lies in, and its token is one."""
    return set(Path(parent[0]).parts) == {".."} and bool(_TOKEN.fullmatch(parent[1]))


_TOKEN = re.compile(r"[\w-]{1,64}")


@dataclass
class About:
    """What `tracking.json` says of a run.

    Attributes:
        to: the store that it belongs to, see `Store.to`.
        token: names the run at any server.
        parent: the run that it belongs to: its folder, which this one lies in, as a relative path,
            and its token.
        began: milliseconds since 1970.
        end: one of `ENDS`, and milliseconds since 1970; None until the process tells it.
    """

    to: Word
    experiment: Annotated[Line, Must(lambda name: name.startswith(OURS), f"{OURS}NAME")]
    name: Line
    params: Annotated[Mapping[Line, Any], Must(_are_few, f"at most {MOST_ENTRIES} parameters")]
    tags: Annotated[Mapping[Word, str], Must(_are_few, f"at most {MOST_ENTRIES} tags")]
    token: Annotated[str, Must(_TOKEN.fullmatch, "a token")]
    parent: Annotated[tuple[str, str], Must(_is_above, "a folder above and its token")] | None
    began: Milliseconds
    end: tuple[Annotated[str, one_of(ENDS)], Milliseconds] | None = None


def read_about(folder: Path) -> About | None:
    """Return what `tracking.json` says; None if the folder has none that can be read."""
    with contextlib.suppress(OSError, UserError):
        return checked_about(folder)
    return None


def checked_about(folder: Path) -> About:
    """Return what `tracking.json` says.

    Raises:
        Foreign: it is no file of the folder's own, or says nothing that can be used.
        OSError: it is missing or cannot be read.
    """
    text = own_bytes(folder, TRACKING_FILE, most=MOST_BYTES)
    try:
        about, wrong = checked(About, decode_json(text))
    except ValueError:
        about, wrong = None, ["cannot be read"]
    if about is None:
        raise Foreign(f"{folder / TRACKING_FILE} ({'; '.join(wrong)})")
    return _told(about)


def _told(about: About) -> About:
    """Return what may be known of a run by others: words are without secrets."""
    words = {name: told_values(getattr(about, name)) for name in WORDS}
    return replace(about, **words)


def write_about(folder: Path, about: About) -> None:
    """Write `tracking.json`.

    Raises:
        StorageError: the disk refuses.
    """
    text = json.dumps(vars(_told(about)), indent=1, sort_keys=True)
    write_atomically(folder / TRACKING_FILE, text.encode())


def tell_end(folder: Path, about: About, state: str, handle: int) -> None:
    """Write down how a run ended, unless others still work on it here.

    Args:
        handle: from ``working_in``, whose lock is lost.
    """
    for _ in range(LAST_TRIES):
        if _is_last(handle):
            about.end = state, int(time.time() * 1000)
            with contextlib.suppress(StorageError):
                write_about(folder, about)
            return
        # Whoever looks whether the folder is in use holds it for a moment, too.
        time.sleep(LAST_PAUSE)


def end_of(folder: Path, about: About) -> tuple[str, int]:
    """Return how and when a run ended in whose folder nobody works, see ``About.end``."""
    if about.end:
        return about.end
    record = _record(folder)
    if record is None:
        signs = [folder / TRACKING_FILE, *(folder / CHECKPOINTS).glob(f"*/{STATE}")]
        return "interrupted", max(sign.stat().st_mtime_ns for sign in signs) // 1_000_000
    failed = "pruned" if record["failure"].startswith(PRUNED) else "failed"
    return "complete" if record["complete"] else failed, _finished(record)


def is_end_sent(folder: Path, about: About) -> bool:
    """Return whether the end that `tracking.json` tells was sent."""
    return about.end is not None and read_mark(folder / SENT_FILE) == _mark(about.end)


def note_end_sent(folder: Path, end: tuple[str, int]) -> None:
    """Note that an end was sent.

    Raises:
        StorageError: the disk refuses.
    """
    if read_mark(folder / SENT_FILE) != _mark(end):
        write_atomically(folder / SENT_FILE, _mark(end).encode())


def _mark(end: tuple[str, int]) -> str:
    return f"{end[0]} {end[1]}"


def figures_of(folder: Path, about: About) -> list[tuple[str, float, int, int]]:
    """Return the figures of a run, in an order that stays the same as more of them come.

    Each has a name, a value, its moment in milliseconds since 1970, and its step. A step's moment
    is the start of the run and the seconds that were spent until then: it is the same whenever it
    is asked for.

    Raises:
        Foreign: they are not in files of the folder's own, or in none that can be read.
    """
    try:
        return _figures(folder, about)
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError, pa.ArrowException):
        raise Foreign(f"{folder} (curves or a record that cannot be read)") from None


def _figures(folder: Path, about: About) -> list[tuple[str, float, int, int]]:
    record = _record(folder)
    if record is None:
        rows = _saved_curves(folder)
    else:
        curves = own_bytes(folder, record["curves"]["file"], most=MOST_BYTES)
        rows = read_frame(curves).to_dict("records")
    figures: list[tuple[str, float, int, int]] = []
    step, at = 0, about.began
    for row in rows:
        step, at = int(row["step"]), about.began + int(1000 * row.get("seconds", 0.0))
        # A figure that a step does not have is not a number in the table of all steps.
        figures += [
            (curve_key(str(name)), float(value), at, step)
            for name, value in sorted(row.items())
            if name != "step" and not math.isnan(value)
        ]
    if record is not None:
        spent = {f"ledger/{phase}": costs for phase, costs in record["budget"]["spent"].items()}
        at = max(_finished(record), at + 1)
        figures += [
            (f"{prefix}/{name}", float(value), at, step)
            for prefix, values in {**spent, **record["metrics"]}.items()
            for name, value in values.items()
        ]
    if not all(0 <= moment < LATEST and 0 <= step < LATEST for _, _, moment, step in figures):
        raise ValueError("a moment or a step is none")
    return figures


def curve_key(name: str) -> str:
    """Return the name by which MLflow knows a column of a run's curves."""
    if name.startswith("valid/"):
        return LOOK + name.removeprefix("valid/")
    return f"spent/{name}" if name in SPENT else name


def files_of(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the contents of the files that MLflow gets, by name, and what must be left out."""
    files, left_out = {}, []
    for name in FILES:
        try:
            files[name] = own_bytes(folder, name, most=MOST_BYTES)
        except FileNotFoundError:
            continue
        except Foreign as error:
            left_out.append(str(error))
        except OSError as error:
            left_out.append(f"{folder / name} ({error.strerror or error})")
    return files, left_out


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[int]:
    """Lock a folder, together with others, while the body of a ``with`` statement works in it.

    Yields:
        The handle of the folder.

    Raises:
        OSError: the disk refuses.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield handle
    finally:
        os.close(handle)


def is_live(folder: Path) -> bool:
    """Return whether a process on this machine works in a folder."""
    with working_in(folder) as handle:
        return not _is_last(handle)


def _is_last(handle: int) -> bool:
    """Return whether nobody else works in a folder; what lock ``working_in`` took may be lost."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _record(folder: Path) -> Record | None:
    """Return a run's record; None if there is none that holds, and is the folder's own."""
    with contextlib.suppress(UserError, OSError):
        check_own(folder / RECORD_FILE)
        return read_record(folder)
    return None


def _saved_curves(folder: Path) -> list[dict[Hashable, Any]]:
    """Return the curves in the newest checkpoint that can be read."""
    for checkpoint in reversed(training_checkpoints(folder / CHECKPOINTS)):
        # Older ones are removed meanwhile, and a damaged one is not for us to tell.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, StorageError):
            place = (CHECKPOINTS, checkpoint.name, STATE)
            state = decode_json(own_bytes(folder, *place, most=MOST_BYTES), constants=True)
            return list(check_training_state(state["content"], checkpoint)["curves"])
    return []


def _finished(record: Record) -> int:
    return int(1000 * datetime.fromisoformat(record["times"]["finished"]).timestamp())
