"""Does a board take longer for records that strangers forged beside the honest ones?

    python benchmarks/hostile_board.py

Makes a board of 50 honest records, and one of these and 50 hostile ones of ten kinds (those of
`tests/support/hostile_records.py`), in turns, and prints the processor's seconds of each.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
TURNS = 3


def main() -> None:
    """Measure, and print."""
    sys.path.insert(0, str(TESTS / "support"))
    from board_world import BEST, GOOD, save, whole
    from hostile_records import make_hostile

    from genrec_bench.commands.cli import main as command

    def board(records: str) -> float:
        began = time.process_time()
        words = ["leaderboard", "industrial", "--output", "out", "--records", records]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert command(words) == 0
        return time.process_time() - began

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number in range(50):
            ranks = BEST if number % 2 else GOOD
            save(Path("honest"), whole(f"algo{number // 5}", ranks, seed=number % 5))
        shutil.copytree("honest", "both")
        hostile = make_hostile(Path("both"))
        board("honest")  # imports
        seconds = [(board("honest"), board("both")) for _ in range(TURNS)]
        os.chdir(TESTS)
    for alone, together in seconds:
        print(
            f"honest alone {alone:.2f} s, with {len(hostile)} hostile ones {together:.2f} s: "
            f"{together / alone:.2f} times"
        )


if __name__ == "__main__":
    main()
