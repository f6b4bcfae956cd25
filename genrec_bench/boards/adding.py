"""Records enter a folder of boards: verified first, alone and beside those that are there.

Only what a board needs is copied: the record, the outcomes and the curves. Nothing that strangers
name decides where: names are checked when a record is read, and once more when they become a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genrec_bench import benchmark_version
from genrec_bench.boards.collecting import SHOWN, read_each, record_paths, refuse
from genrec_bench.boards.evidence import Evidence, read_evidence
from genrec_bench.boards.outside import is_outside
from genrec_bench.boards.rows import group
from genrec_bench.boards.verify import verify
from genrec_bench.boards.verify_together import contradictions, verify_together
from genrec_bench.errors import UserError
from genrec_bench.runs.record_schema import version_key
from genrec_bench.runs.records import RECORD_FILE
from genrec_bench.runs.registry import default_hyperparameters
from genrec_bench.storage.files import inside
from genrec_bench.storage.folders import written_whole

MOST_BYTES = 16_000_000
"""Of one record with its outcomes and curves; 30,000 users take well below a million."""

SEEDS_ADVISED = 5
"""As CONTRIBUTING asks for; fewer see large differences alone."""


@dataclass(frozen=True)
class Added:
    """What came of it.

    Attributes:
        copied: the folders of the new records.
        notes: what was left aside, and what the reader should know of what was not.
    """

    copied: list[Path]
    notes: list[str]


def add_records(sources: Sequence[Path], folder: Path) -> Added:
    """Verify all records below some folders and copy them; none is copied if one is refused.

    Args:
        folder: records lie in it by version, dataset and run.

    Raises:
        UserError: there are none, or some are refused; the reasons are printed, line by line.
        StorageError: the disk refuses.
    """
    found, wrong = read_each(record_paths(sources))
    there, damaged = read_each(record_paths([folder]))
    refuse(damaged, f"nothing is added until {folder} is restored")
    trials = [one for one in found if not one.on_test]
    known = {one.record["run_id"]: one.record for one in there}
    fresh: dict[str, Evidence] = {}
    for one in found:
        if one.on_test and known.get(one.record["run_id"]) != one.record:
            fresh.setdefault(one.record["run_id"], one)
    if not found and not wrong:
        raise UserError(f"no record was found below {', '.join(map(str, sources))}")
    new = list(fresh.values())
    for one in new:
        wrong += [str(finding) for finding in verify(one).findings][:SHOWN]
        wrong += _reasons(one)
    ours = {one.name for one in new}
    # Records that are there come first: what does not fit to them is the new one.
    together = [*verify_together([*there, *new]), *verify_together(found)]
    wrong += [str(finding) for finding in together if finding.record in ours]
    refuse(list(dict.fromkeys(wrong)), "nothing was added")
    copied = [_copy(one, folder) for one in new]
    return Added(copied, [*_left(trials, found, new), *_notes(there, new)])


def _reasons(one: Evidence) -> list[str]:
    """Why a record that holds is refused all the same."""
    assert one.path is not None, "it was read from a file"
    size = sum((one.path.parent / name).stat().st_size for name in _files(one))
    reasons = []
    if version_key(one.record["benchmark"]) > version_key(benchmark_version()):
        reasons.append(f"made by {one.record['benchmark']}, and this is {benchmark_version()}")
    if size > MOST_BYTES:
        reasons.append(f"{size:,} bytes with its files, and {MOST_BYTES:,} are kept at most")
    return [f"{one.name}: {reason}" for reason in reasons]


def _files(one: Evidence) -> tuple[str, ...]:
    # The record comes last, as when it was written.
    return one.record["outcomes"]["file"], one.record["curves"]["file"], RECORD_FILE


def _copy(one: Evidence, folder: Path) -> Path:
    """Copy what a board needs, and read the copy: it must be what was verified."""
    assert one.path is not None, "it was read from a file"
    version = inside(folder, f"v{one.record['benchmark']}")
    final = inside(inside(version, one.record["dataset"]), one.record["run_id"])
    with written_whole(final) as new:
        for name in _files(one):
            inside(new, name).write_bytes((one.path.parent / name).read_bytes())
        if read_evidence(new / RECORD_FILE).record != one.record:
            raise UserError(f"{one.name}: changed while it was copied; nothing of it was added")
    return final


def _left(
    trials: Sequence[Evidence], found: Sequence[Evidence], new: Sequence[Evidence]
) -> list[str]:
    already = len(found) - len(trials) - len(new)
    return [
        *([f"left aside: {len(trials)} trials of sweeps, which no board shows"] if trials else []),
        *([f"left aside: {already} that are there already"] if already else []),
    ]


def _notes(there: Sequence[Evidence], new: Sequence[Evidence]) -> list[str]:
    """What does not stand against a record and should be known of it."""
    algorithms = set(default_hyperparameters())
    strangers = sorted({one.record["algorithm"] for one in new if not is_outside(one)} - algorithms)
    notes = [
        f"algorithms/ has no {name}.py: add it too, or nobody can repeat it" for name in strangers
    ]
    ours = {one.name for one in new}
    found = contradictions([*there, *new])
    notes += [f"contradicts: {finding}" for finding in found if finding.record in ours]
    return notes + _single_seeds(there, new)


def _single_seeds(there: Sequence[Evidence], new: Sequence[Evidence]) -> list[str]:
    """What it means that a row of new records has one seed, and how it gets more."""
    tracks: dict[tuple[str, str], list[Evidence]] = {}
    for one in (*there, *new):
        # Of what is not trained another seed says the same.
        if one.on_test and not is_outside(one) and one.record.get("trained", True):
            tracks.setdefault((one.record["benchmark"], one.record["track_id"]), []).append(one)
    rows = [row for every in tracks.values() for row in group(every, default_hyperparameters())]
    return [
        f"{row.name}, track {one.record['track_id']}: one seed alone. Its interval speaks of users "
        "and not of other seeds, no verdict is given of it, and the board marks it so; more: "
        f"`genrec-bench run --from-record {one.path} --seed {one.record['seed'] + 1}` and so on, "
        f"then `leaderboard add` again ({SEEDS_ADVISED} seeds are advised)"
        for row in rows
        for one in row.finished
        if len(row.finished) == 1 and one in new
    ]
