"""A policy's folder opened again, and what ranks its candidates found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genrec_bench.data.cards import SHARED_SID_RULES, Codes, HistoryLength
from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.data.dataset_store import data_directory
from genrec_bench.data.sids.sid_recipe import MOST_LEVELS
from genrec_bench.errors import UserError, one_line
from genrec_bench.policy.backbones import Backbone, make_policy
from genrec_bench.policy.precision import STORED
from genrec_bench.runs.policy_folder import EMBEDDINGS, FOLDER, SIDS, read_catalog
from genrec_bench.runs.recommender import Recommender, Tell, as_warning
from genrec_bench.runs.record_schema import EXTERNAL
from genrec_bench.runs.records import RECORD_FILE
from genrec_bench.runs.registry import find, source_hash
from genrec_bench.runs.stored_adapters import fill_policy, weights_below
from genrec_bench.storage.files import read_json
from genrec_bench.storage.validation import Must, checked, one_of
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.checkpoints import POLICY
from genrec_bench.training.memory import load_memory
from genrec_bench.training.settings import Settings


@dataclass(frozen=True)
class _About:
    """What ``policy.json`` says; it may say more."""

    algorithm: str
    beam_width: int
    codes_per_level: Annotated[
        tuple[Codes, ...], Must(lambda codes: 1 <= len(codes) <= MOST_LEVELS + 1, "some counts")
    ]
    dataset: str
    decoding: str
    dtype: str
    extra_tokens: Mapping[str, int]
    history_length: HistoryLength
    hyperparameters: Mapping[str, Any]
    logprob_space: str
    prompt: str
    rank_shared: Annotated[str, one_of(SHARED_SID_RULES)]


@dataclass(frozen=True, eq=False)
class _Seen:
    """What `make_policy` is told of the data: the catalog, and how long a history may be."""

    catalog: Catalog
    splits: Mapping[str, Examples]

    @property
    def sid_fingerprint(self) -> str:
        return self.catalog.fingerprint


def policy_path(path: Path) -> Path:
    """Return the folder of a policy, given as such, or by its run's folder or record.

    Raises:
        UserError: there is none.
    """
    place = path.parent if path.name == RECORD_FILE else path
    for folder in (place, place / FOLDER):
        if (folder / POLICY).is_file():
            return folder
    if not place.exists():
        raise UserError(f"{path}: there is no such record or folder")
    if (place / RECORD_FILE).is_file():
        if read_json(place / RECORD_FILE).get("kind") == EXTERNAL:
            raise UserError(f"{path}: is of an outside system, of which there are lists, no policy")
        raise UserError(
            f"{place / FOLDER}: is not there: the run failed, its policy was cleared away, or the "
            f"record came without it; `genrec-bench run --from-record {place}` trains it again"
        )
    raise UserError(f"{path}: holds neither a record nor a policy ({POLICY})")


def open_policy(
    path: Path,
    *,
    algorithm: str | None = None,
    tell: Tell = as_warning,
    data_dir: str | None = None,
) -> Recommender:
    """Load a trained policy for recommending.

    Args:
        path: its folder, or its run's folder or record.
        algorithm: name or file of the algorithm, where it ranks in a way of its own and is not
            found under its name; it is not asked for otherwise.
        tell: see `Recommender`.
        data_dir: has the SFT start of a policy that is stored as an adapter; by default as for the
            commands.

    Raises:
        UserError: something is missing, damaged, or does not fit.
    """
    folder = policy_path(Path(path))
    about = read_json(folder / POLICY)
    _, wrong = checked(_About, about, extra="ignore")
    if wrong:
        raise UserError(
            f"{folder / POLICY}: {'; '.join(wrong)}; it is damaged, or an earlier version wrote "
            "this policy: the command that trained it writes it anew"
        )
    catalog = read_catalog(folder, about)
    ranks = None
    if about["decoding"] != "beam" or about.get("reranks"):
        ranks = _algorithm_of(about, algorithm, tell)
    embeddings = _embeddings(folder) if ranks is not None and ranks.uses_embeddings else None
    try:
        settings = Settings(
            prompt=about["prompt"],
            logprob_space=about["logprob_space"],
            # Whatever it was trained from, its own weights are in float32.
            precision="fp32" if about["dtype"] == STORED["fp32"] else "bf16-mixed",
            beam_width=about["beam_width"],
        )
    except UserError as error:
        raise UserError(f"{folder / POLICY}: {error}") from None
    longest = Examples.from_lists([0], [[0] * about["history_length"]], [0])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extra = sorted(about["extra_tokens"], key=about["extra_tokens"].get)
    weights = weights_below(folder, data_directory(data_dir))
    # Heads are drawn at random before they are loaded; the caller's random numbers stay the same.
    with torch.random.fork_rng(devices=[]):
        policy = make_policy(
            Backbone(str(weights), "", False, 0.0, 0.0),
            _Seen(catalog, {"longest": longest}),
            settings,
            device,
            weights=weights,
            tokens=extra,
            heads=ranks.heads if ranks is not None else None,
            embeddings=embeddings,
        )
        fill_policy(policy, folder)
        if ranks is not None:
            load_memory(ranks, folder, device)
    policy.eval()
    return Recommender(folder, about, catalog, policy, ranks, tell)


def _algorithm_of(about: Mapping[str, Any], given: str | None, tell: Tell) -> Algorithm | None:
    """Return the algorithm that ranks, or None, which is told, where it is not to be had."""
    name = about["algorithm"]
    try:
        entry = find(given or name)
        hyperparameters = entry.algorithm.hyperparameters_class(**about["hyperparameters"])
    except (UserError, TypeError) as error:
        if given:
            raise UserError(f"{given}: is not the algorithm of this policy: {error}") from None
        tell(
            f"evaluation ranked in a way of {name}'s own ({about['decoding']}), which cannot be "
            f"used here ({one_line(error)}); this ranks by beam search"
        )
        return None
    if source_hash(entry) != about.get("algorithm_sha256"):
        tell(f"{name}: its code is not that of the run, so that it may rank otherwise")
    return entry.algorithm(hyperparameters)


def _embeddings(folder: Path) -> Tensor:
    file = folder / EMBEDDINGS
    try:
        return load_file(str(file))[SIDS]
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{file}: the embeddings cannot be loaded: {one_line(error)}") from None
