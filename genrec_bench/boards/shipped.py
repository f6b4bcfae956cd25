"""The boards that come with the repository: all that is made from the records in `leaderboards/`.

These are a board for each dataset, the page of claims, and, between two marks of each of two
documents, what the README beside the folder says first and what the folder's own lists. Nothing
else is read: records of the reader's own runs never get on these boards, unless they are added to
the folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from genrec_bench.boards.board import Board, Section
from genrec_bench.boards.claims import (
    SUITES,
    Tried,
    claims_markdown,
    tried_in,
    verdict_table,
)
from genrec_bench.boards.collecting import board_files, collect, record_paths, refuse
from genrec_bench.boards.html_page import claims_html
from genrec_bench.boards.pair_tables import GAINS, gains_table
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import titled
from genrec_bench.boards.text_cells import escaped
from genrec_bench.boards.verdict import gain, heading, unequal_cost, verdict
from genrec_bench.errors import UserError
from genrec_bench.runs.record_schema import version_key
from genrec_bench.runs.registry import default_hyperparameters
from genrec_bench.storage.files import write_atomically

README = "README.md"
BEGIN = "<!-- boards: made by `genrec-bench leaderboard renew`; not to be edited -->"
END = "<!-- end of boards -->"

_LONG = re.compile(r"\d+\.\d{9,}(?:e[-+]?\d+)?|\d\.\d+e-\d+")
"""Numbers with all digits, as CSV and pages have them."""


def shipped_boards(folder: Path) -> dict[str, Board]:
    """Make the board of every dataset that has records below a folder, by dataset.

    Raises:
        UserError: there is no record, or some do not hold; what is wrong is printed, line by line.
    """
    evidence, wrong = collect(record_paths([folder]))
    refuse(wrong, "no board is made until they are restored, or moved out of this folder")
    datasets = sorted({one.record["dataset"] for one in evidence if one.on_test})
    if not datasets:
        raise UserError(f"there is no record below {folder}")
    usual = default_hyperparameters()
    return {name: make_board(evidence, name, usual, folder) for name in datasets}


def shipped_files(boards: Mapping[str, Board], folder: Path) -> dict[Path, bytes]:
    """All that is made from the boards of a folder, by path."""
    files: dict[Path, bytes] = {}
    for board in boards.values():
        files |= board_files(board, folder)
    for suite in SUITES:
        if any(claim.dataset in boards for claim in SUITES[suite]):
            files[folder / f"{suite}.md"] = claims_markdown(
                tried_in(boards, suite, "{}.md")
            ).encode()
            page = claims_html(tried_in(boards, suite, "{}.html"))
            files[folder / f"{suite}.html"] = page.encode()
    documents = {
        folder.resolve().parent / README: first_screen(boards, folder.name),
        folder / README: contents(boards),
    }
    for path, block in documents.items():
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if BEGIN in text and END in text:
            files[path] = with_block(text, block).encode()
    return files


def renew(folder: Path) -> tuple[list[Path], int]:
    """Make all of it anew; files that say the same but for rounding stay as they are.

    Returns:
        The paths of those that changed, and how many stayed.

    Raises:
        UserError: as `shipped_boards`.
        StorageError: the disk refuses.
    """
    files = shipped_files(shipped_boards(folder), folder)
    changed = [path for path in files if not is_current(path, files[path])]
    for path in changed:
        write_atomically(path, files[path])
    return changed, len(files) - len(changed)


def is_current(path: Path, content: bytes) -> bool:
    """Whether a file says this already: machines may differ in the last digits of a number."""
    return path.is_file() and _rounded(path.read_bytes()) == _rounded(content)


def _rounded(content: bytes) -> str:
    """Text whose long numbers have fewer digits than rounding could touch."""
    return _LONG.sub(lambda found: f"{float(found[0]):.8g}", content.decode())


def with_block(text: str, block: str) -> str:
    """A document with what stands between its marks replaced."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{rest.partition(END)[2]}"


def first_screen(boards: Mapping[str, Board], folder: str) -> str:
    """What the newest boards say: the verdicts in words, then gains, then claims.

    Boards whose newest section is of an older version than others' are left to their pages.

    Args:
        folder: of the boards' pages, relative to the document.
    """
    newest = max(version_key(board.sections[0].benchmark) for board in boards.values())
    fresh = {
        name: board
        for name, board in boards.items()
        if version_key(board.sections[0].benchmark) == newest
    }
    suites = {suite: tried_in(fresh, suite, "") for suite in SUITES}
    worlds = {one.claim.dataset for tried in suites.values() for one in tried}
    headline = {name: board for name, board in fresh.items() if name not in worlds}
    concluded, parts = [], []
    for board in headline.values():
        section = _telling(board)
        lead, *_, where = verdict(board, section)
        link = f"[{escaped(_title(board, section))}]({folder}/{quote(board.dataset)}.md)"
        concluded.append(f"- {link}, {heading(section)}: {escaped(lead)}")
        if gains := gains_table(section, "pipe"):
            parts += [escaped(where), gains]
    if parts:
        parts.append(GAINS)
    for suite, tried in suites.items():
        if any(one.board for one in tried):
            told = f"[Papers' claims, in worlds made for them]({folder}/{suite}.md)"
            concluded.append(f"- {told}: {escaped(claims_in_words(tried))}")
            parts.append(verdict_table(tried, "pipe"))
    head = "**What the boards conclude so far**:"
    return "\n\n".join([head, "\n".join(concluded), *parts])


def contents(boards: Mapping[str, Board]) -> str:
    """A line for each board of a folder: its page, and on which terms rows are compared there."""
    lines = []
    for name, board in boards.items():
        sections = "; ".join(heading(section) for section in board.sections)
        title = escaped(_title(board, board.sections[0]))
        lines.append(f"- [{escaped(name)}]({quote(name)}.md), {title}: {sections}")
    for suite in SUITES:
        if any(one.board for one in tried_in(boards, suite, "")):
            lines.append(f"- [{suite}]({suite}.md), papers' claims in worlds made for them")
    return "\n".join(lines)


def claims_in_words(tried: list[Tried]) -> str:
    """Whose claims hold, whose do not, and whose are open."""
    found: dict[str, list[str]] = {}
    for one in tried:
        found.setdefault(one.verdict.word, []).append(one.claim.algorithm)
    words = {
        "holds": "of {} holds",
        "does not hold": "of {} does not hold",
        "open": "of {} is open",
    }
    told = [words[word].format(", ".join(found[word])) for word in words if word in found]
    words_of_all = f"{len(tried)} claims; what is claimed {'; '.join(told)}."
    unequal = [one.claim.dataset for one in tried if one.section and unequal_cost(one.section)]
    if unequal:
        names = ", ".join(unequal)
        words_of_all += f" Runs do not cost the same in {names}: their boards say how much."
    return words_of_all


def _telling(board: Board) -> Section:
    """The first section of the newest version that has a verdict; without any, the first."""
    newest = board.sections[0].benchmark
    known = (one for one in board.sections if one.benchmark == newest and _has_verdict(one))
    return next(known, board.sections[0])


def _has_verdict(section: Section) -> bool:
    """Whether any row was compared with the SFT start, and any with SFT continued."""
    return all(
        any(gain(section, row, part) for row in section.rows) for part in ("start", "control")
    )


def _title(board: Board, section: Section) -> str:
    return titled(board.title or board.dataset, section.partial)
