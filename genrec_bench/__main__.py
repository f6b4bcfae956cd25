"""``python -m genrec_bench`` is ``genrec-bench``.

Python puts the current folder first on the import path of a module that it runs, so that a file
there would stand for a library of its name. It is taken off before any library is imported.
"""

import os
import sys

if not sys.flags.safe_path and os.getcwd() in sys.path:
    sys.path.remove(os.getcwd())

from genrec_bench.commands.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
