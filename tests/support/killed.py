"""A process of its own that carries a command out on a smaller `tiny`, and may kill itself.

    python killed.py ROOT MOMENT WORD...

ROOT is where `{root}` stands in the words. MOMENT says after how many moments (see `crashes.py`)
the process kills itself, -1 for never.
"""

import os
import signal
import sys
from pathlib import Path

import pytest
from crashes import carry_out, moments
from tiny_runs import shrink_backbone


def main() -> None:
    root, moment, words = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]

    def reached(number: int, name: str) -> None:
        if number == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    shrink_backbone(pytest.MonkeyPatch())
    with moments(root, reached):
        carry_out(words, root)


if __name__ == "__main__":
    main()
