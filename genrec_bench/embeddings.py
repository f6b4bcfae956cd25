"""Item embeddings, for algorithms that ask how near a wrong item is to the right one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec_bench.dataset import Dataset
from genrec_bench.workers import Workers


def sid_embeddings(
    dataset: Dataset, source: str, data_dir: Path, workers: Workers
) -> NDArray[np.float32]:
    """Return [num_sids, E] embeddings of the catalog's SIDs."""
    raise NotImplementedError
