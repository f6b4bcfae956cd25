"""Arrays in NumPy's own format, from files that others made or machines damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec_bench.errors import one_line


def open_array(path: Path) -> NDArray[Any]:
    """Map the array of a file that ``numpy.save`` made; nothing is unpickled, and no code is run.

    As it is a map, a header that promises more than the file holds takes no memory.

    Raises:
        ValueError: it cannot be read, or holds anything else; one line.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    # A header is read as Python, whose tokenizer and parser raise what they like.
    except Exception as error:
        raise ValueError(one_line(error) or type(error).__name__) from None
    if not isinstance(array, np.ndarray):
        raise ValueError("is an archive of arrays")
    return array
