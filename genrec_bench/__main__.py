"""``python -m genrec_bench`` is ``genrec-bench``."""

import sys

from genrec_bench.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
