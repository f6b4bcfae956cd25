"""What the tests of downloads share: a file, a server that has it, and a look at what is left."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from local_server import LocalServer
from rich.progress import TaskID

from genrec_bench.data.preparation.download import fetch
from genrec_bench.data.preparation.raw_recipe import SourceFile
from genrec_bench.errors import UserError
from genrec_bench.progress import Bar, Progress

CONTENT = random.Random(1).randbytes(40_000)
OTHER = random.Random(2).randbytes(40_000)
NAME = "ratings.csv.gz"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source(server: LocalServer, sha256: str = "") -> SourceFile:
    return SourceFile(NAME, f"{server.url}/raw/{NAME}", sha256)


def get(wanted: SourceFile, folder: Path, progress: Progress | None = None) -> Path:
    return fetch(wanted, folder, progress or Progress(quiet=True), pause=0.0, timeout=5.0)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    return said


def names(folder: Path) -> set[str]:
    """What is in the folder, but for locks."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def check_whole(path: Path, content: bytes = CONTENT) -> None:
    """The file is there, and nothing is left of the way to it."""
    assert path.read_bytes() == content
    assert names(path.parent) == {NAME, "checksums.json"}


class WatchedBar(Bar):
    def __init__(self) -> None:
        super().__init__(None, TaskID(0))
        self.amounts: list[float] = []

    def advance(self, amount: float) -> None:
        self.amounts.append(amount)


class Watched(Progress):
    """What a person would see."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []
        self.bars: list[tuple[str, float, WatchedBar]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Bar]:
        bar = WatchedBar()
        self.bars.append((title, total, bar))
        yield bar
