"""From folders to boards: find the records, read and verify them, and write the boards' files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench.boards.board import Board
from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.evidence import Evidence, read_evidence
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.tables import to_markdown
from genrec_bench.boards.verify import Finding, Verified, verify
from genrec_bench.boards.verify_together import contradictions, verify_together
from genrec_bench.errors import UserError
from genrec_bench.runs.records import RECORD_FILE, TRACKING_FOLDERS
from genrec_bench.storage.files import inside, write_atomically

SHOWN = 3
"""Findings of one record that a board's refusal shows; `verify` shows them all."""

ALTERED, CONTRADICTS = "altered", "contradicts"
"""What a record is called that does not hold, and one that an equal run speaks against."""


@dataclass(frozen=True)
class Check:
    """What the verification of all records below some folders found.

    Attributes:
        lines: one for each record that could be read, by the heads of the table that shows them.
        contradictions: equal runs that ended differently, which may be honest.
    """

    lines: list[dict[str, Any]]
    wrong: list[str]
    contradictions: list[Finding]
    holding: int


def record_paths(folders: Iterable[Path]) -> Iterator[Path]:
    """All records at any depth below some folders, each file once.

    Args:
        folders: in order of preference; may lie in each other, or be missing.
    """
    seen: set[Path] = set()
    for top in folders:
        found = []
        for where, below, files in os.walk(top):
            below[:] = [name for name in below if name not in TRACKING_FOLDERS]
            if RECORD_FILE in files:
                found.append(Path(where) / RECORD_FILE)
        for path in sorted(found):
            resolved = path.resolve()
            if resolved not in seen:
                seen.add(resolved)
                yield path


def read_each(paths: Iterable[Path]) -> tuple[list[Evidence], list[str]]:
    """Read some records: those that can be read, and one line for each that cannot."""
    found, wrong = [], []
    for path in paths:
        try:
            found.append(read_evidence(path))
        except UserError as error:
            wrong.append(str(error))
    return found, wrong


def collect(paths: Iterable[Path]) -> tuple[list[Evidence], list[str]]:
    """Read and verify records before a board is made of them, each run once.

    Args:
        paths: of equal copies the one that comes first counts.

    Returns:
        The records that hold, and a line for each thing that is wrong with the others.
    """
    found, wrong = read_each(paths)
    bad: dict[str, list[str]] = {}
    for finding in _findings([verify(one) for one in found]):
        bad.setdefault(finding.record, []).append(str(finding))
    for name, lines in bad.items():
        wrong += lines[:SHOWN]
        if len(lines) > SHOWN:
            wrong.append(f"{name}: and {len(lines) - SHOWN} more; `leaderboard verify` lists them")
    kept: dict[str, Evidence] = {}
    for one in found:
        if one.name not in bad:
            kept.setdefault(one.record["run_id"], one)
    return list(kept.values()), wrong


def verify_folders(folders: Sequence[Path]) -> Check:
    """Verify all records below some folders; copies are verified one by one."""
    found, wrong = read_each(record_paths(folders))
    verified = [verify(one) for one in found]
    findings = _findings(verified)
    contrary = contradictions(found)
    bad = {finding.record: ALTERED for finding in findings}
    doubts = {finding.record: CONTRADICTS for finding in contrary} | bad
    lines = [_line(one, doubts.get(one.evidence.name)) for one in verified]
    wrong += [str(finding) for finding in findings]
    return Check(lines, wrong, contrary, len(verified) - len(bad))


def tell_left_out(wrong: Sequence[str]) -> None:
    """Print to standard error what a board is made without, and why."""
    for line in wrong:
        print(f"left out: {line}", file=sys.stderr)


def refuse(wrong: Sequence[str], consequence: str) -> None:
    """Print all that is wrong to standard error, and stop.

    Raises:
        UserError: something is wrong.
    """
    for line in wrong:
        print(f"{ALTERED}: {line}", file=sys.stderr)
    if wrong:
        raise UserError(f"some records do not hold, as the lines above say; {consequence}")


def board_files(board: Board, folder: Path, stem: str | None = None) -> dict[Path, bytes]:
    """A board as `<stem>.md`, `<stem>.csv` and `<stem>.html` of a folder, by path.

    Args:
        board: made with links relative to `folder`.
        stem: of the names; the dataset's name by default.

    Raises:
        UserError: the name leads out of the folder.
    """
    makers = (("md", to_markdown), ("csv", to_csv), ("html", to_html))
    name = stem or board.dataset
    return {inside(folder, f"{name}.{ending}"): make(board).encode() for ending, make in makers}


def write_boards(board: Board, folder: Path, stem: str | None = None) -> list[Path]:
    """Write `board_files`, and return their paths.

    Raises:
        UserError: the name leads out of the folder.
        StorageError: the disk refuses.
    """
    files = board_files(board, folder, stem)
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def _findings(verified: Sequence[Verified]) -> list[Finding]:
    # What does not hold by itself has no say on what does.
    holding = [one.evidence for one in verified if not one.findings]
    return [finding for one in verified for finding in one.findings] + verify_together(holding)


def _line(one: Verified, doubt: str | None) -> dict[str, Any]:
    record = one.evidence.record
    return {
        "record": one.evidence.name,
        "algorithm": record["algorithm"],
        "seed": record["seed"],
        "metrics": one.metrics,
        "SFT start's": one.start_metrics,
        "budget": one.share,
        "result": doubt or ("holds" if record["complete"] else "holds, failed run"),
    }
