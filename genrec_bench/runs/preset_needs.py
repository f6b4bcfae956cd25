"""What a preset needs on a dataset and this machine; nothing is loaded."""

from __future__ import annotations

from pathlib import Path

import torch

from genrec_bench.data.dataset import Dataset
from genrec_bench.runs.jobs import Job, configured
from genrec_bench.runs.preset_files import Preset
from genrec_bench.runs.request import Request
from genrec_bench.runs.run_needs import Needs, run_needs


def needs_of(preset: Preset, dataset: Dataset, device: torch.device | None = None) -> Needs:
    """Estimate what a run of a preset's own algorithm needs.

    Raises:
        UserError: its words do not fit the algorithm.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = preset.says.algorithm
    entry, algorithm, settings = configured(Job(name, name), (), preset)
    settings = settings.of_length(len(dataset.train))
    nowhere = Path()
    request = Request(
        entry, algorithm, dataset, preset.says.backbone, settings, None, 0, nowhere, nowhere
    )
    return run_needs(request, device)
