"""Policies that are stored as adapters: found together with the SFT start below, and merged.

The start's weights lie once in the data directory, however many runs began there. A policy's folder
names it by its fingerprint, and says of which backbone it was made.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from genrec_bench.errors import UserError
from genrec_bench.policy.adapters import is_adapter, load_adapter
from genrec_bench.policy.policy import Policy
from genrec_bench.runs.policy_folder import CARD, EMBEDDINGS, ITEMS, MERGE_NOTE
from genrec_bench.runs.recommender import Recommender
from genrec_bench.storage.files import read_json
from genrec_bench.storage.folders import check_writable
from genrec_bench.training.checkpoints import BASE, HEADS, POLICY, load_heads, save_policy
from genrec_bench.training.sft_sharing import POLICY_FOLDER, shared_starts
from genrec_bench.training.sft_training import weights_hash

_TOLD = ("backbone", "start", "weights")
"""What is said of the weights below an adapter; ``revision`` may be null."""


def weights_below(folder: Path, data_dir: Path) -> Path:
    """Return the folder of whole weights that a stored policy is loaded from, perhaps its own.

    Raises:
        UserError: it holds an adapter, and the SFT start below is not there; what would get it.
    """
    if not is_adapter(folder):
        return folder
    base = read_json(folder / POLICY).get(BASE)
    if not isinstance(base, Mapping) or not all(isinstance(base.get(k), str) for k in _TOLD):
        raise UserError(f"{folder / POLICY}: does not say which SFT start its adapter belongs to")
    wanted = base["weights"]
    for start in shared_starts(data_dir)[0]:
        weights = start.folder / POLICY_FOLDER
        if start.weights == wanted and weights_hash(weights) == wanted:
            return weights
    made_of = base["backbone"] + (f" at {base['revision']}" if base.get("revision") else "")
    raise UserError(
        f"{folder}: holds an adapter to the SFT start {base['start']} (weights {wanted[:8]}, made "
        f"of {made_of}), which is not in {data_dir}: name the data directory that has it, or fetch "
        f"it by `genrec-bench sft export {wanted[:8]}` there and `genrec-bench sft import` here"
    )


def fill_policy(policy: Policy, folder: Path) -> None:
    """Give a policy made of ``weights_below`` what was trained beside these: adapter and heads.

    Raises:
        UserError: a file is missing, damaged, or does not fit.
    """
    if is_adapter(folder):
        load_adapter(policy, folder)
    load_heads(policy, folder)


def write_merged(opened: Recommender, folder: Path) -> None:
    """Write a policy that is stored as an adapter as a folder that stands alone.

    Args:
        folder: must not be there.

    Raises:
        UserError: the policy is whole already, or the folder is there.
        StorageError: the disk refuses.
    """
    own = opened.folder

    def beside(new: Path) -> None:
        for name in (ITEMS, EMBEDDINGS, HEADS):
            if (own / name).is_file():
                shutil.copyfile(own / name, new / name)
        if (own / CARD).is_file():
            text = (own / CARD).read_text(encoding="utf-8")
            (new / CARD).write_text(text.replace(MERGE_NOTE, ""), encoding="utf-8")

    about = {key: value for key, value in opened.about.items() if key != BASE}
    save_policy(opened.policy, folder, about=about, beside=beside)


def check_mergeable(source: Path, target: Path) -> None:
    """Make sure that a policy is an adapter and can be written elsewhere, before it is loaded.

    Raises:
        UserError: see ``write_merged``.
        StorageError: nothing can be written there.
    """
    if not is_adapter(source):
        raise UserError(f"{source}: holds whole weights and no adapter; copy the folder")
    if target.exists():
        raise UserError(f"--to {target}: is there already; name another folder")
    check_writable(target, f"--to {target}")
