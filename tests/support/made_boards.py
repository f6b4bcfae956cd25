"""Boards made of a few records, and their rows."""

from typing import Any

from genrec_bench.boards.board import Board, BoardRow, Section
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.sections import make_board


def only(board: Board) -> Section:
    (section,) = board.sections
    return section


def rows(board: Board) -> list[BoardRow]:
    return list(only(board).rows)


def row(board: Board, name: str) -> BoardRow:
    (found,) = [one for one in rows(board) if one.name == name]
    return found


def names(board: Board, kind: str = "result") -> list[str]:
    return [row.name for row in rows(board) if row.kind == kind]


def make(*evidence: Evidence, **defaults: Any) -> Board:
    return make_board(evidence, "industrial", defaults or None)
