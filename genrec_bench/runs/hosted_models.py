"""The baselines that there are, and what is tuned of those that cornac hosts.

Source of the models: https://github.com/PreferredAI/cornac, 3.0.1, cornac/models/NAME.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.bounded_json import decode_json

PACKAGE = "cornac"

COUNTS = ("popularity", "last-item-successors")
"""Baselines that are nothing but counts, see `training/counting.py`."""


@dataclass(frozen=True)
class Hosted:
    """A model of cornac as it is run here.

    Attributes:
        model: name of its class.
        about: what a reader should know of it.
        fixed: arguments that are not tuned.
        searched: choices of those that are, the first of each being the first trial's.
        own_loop: whether it is trained here and not by cornac.
        reads_vectors: whether it makes SIDs of its own, of the items' vectors.
        reads_purchases: whether also of a SASRec's item vectors, which then are its cost too.
        needs: modules that cornac imports for it alone.
    """

    model: str
    about: str
    fixed: Mapping[str, Any]
    searched: Mapping[str, Sequence[Any]]
    own_loop: bool = False
    reads_vectors: bool = False
    reads_purchases: bool = False
    needs: tuple[str, ...] = ()


_BEST = {"model_selection": "best", "val_metric": "ndcg", "val_k": 10}

HOSTED: Mapping[str, Hosted] = {
    "sasrec": Hosted(
        "SASRec",
        "self-attention, softmax over all items",
        {"n_epochs": 100, "batch_size": 256, "max_len": 20},
        {
            "learning_rate": (1e-3, 3e-3, 3e-4),
            "dropout": (0.3, 0.5, 0.2),
            "embedding_dim": (64, 128),
            "num_blocks": (2, 1, 3),
        },
        own_loop=True,
    ),
    "gru4rec": Hosted(
        "GRU4Rec",
        "recurrent, cross-entropy over the batch's and 2,048 drawn items",
        {"n_epochs": 30, "batch_size": 128, "loss": "cross-entropy", **_BEST},
        {
            "learning_rate": (0.05, 0.1, 0.02),
            "dropout_p_embed": (0.2, 0.4, 0.0),
            "layers": ([128], [64], [256]),
        },
    ),
    "bert4rec": Hosted(
        "TransformerRec",
        "bidirectional self-attention, masked items (cornac's canonical BERT4Rec)",
        {"backbone": "bert", "objective": "mlm", "n_epochs": 50, "max_len": 20, **_BEST},
        {
            "learning_rate": (1e-3, 3e-3),
            "dropout": (0.2, 0.4),
            "mask_prob": (0.2, 0.4, 0.6),
            "embedding_dim": (64, 128),
        },
    ),
    "fpmc": Hosted(
        "FPMC",
        "factorized Markov chain, BPR",
        {"n_epochs": 30, "batch_size": 512, **_BEST},
        {"learning_rate": (0.05, 0.1, 0.02), "embedding_dim": (64, 128, 32)},
    ),
    "tiger": Hosted(
        "TIGER",
        "encoder and decoder over SIDs of its own (RQ-VAE), beam of 50",
        {"n_epochs": 50, "n_beams": 50, "val_sample": 500, **_BEST},
        {
            "learning_rate": (1e-3, 3e-4),
            "dropout": (0.1, 0.2),
            "num_enc_layers": (4, 2),
        },
        reads_vectors=True,
    ),
    "letter": Hosted(
        "LETTER",
        "TIGER with SIDs that learn from a SASRec's item vectors too, beam of 50",
        {"n_epochs": 50, "n_beams": 50, "val_sample": 500, "early_stopping_patience": 5, **_BEST},
        {
            "learning_rate": (1e-3, 5e-4),
            "cf_weight": (0.02, 0.1),
            "num_enc_layers": (4, 2),
        },
        needs=("k_means_constrained",),
        reads_vectors=True,
        reads_purchases=True,
    ),
    "rpg": Hosted(
        "RPG",
        "long SIDs (16 codes of an optimized product quantization) written all at once",
        {
            "n_epochs": 50,
            "n_codebook": 16,
            "pca_dim": 128,
            "max_len": 20,
            "val_sample": 500,
            **_BEST,
        },
        {
            "learning_rate": (3e-3, 1e-3),
            "temperature": (0.07, 0.03),
            "embd_dropout": (0.5, 0.3),
        },
        needs=("faiss",),
        reads_vectors=True,
    ),
    "diffgrm": Hosted(
        "DiffGRM",
        "SIDs written in any order by masked diffusion, beam of 128",
        {
            "n_epochs": 50,
            "pca_dim": 128,
            "max_len": 20,
            "min_history": 1,
            "scoring": "catalog",
            "warmup_steps": 500,
            "faiss_omp_num_threads": 1,
            "val_sample": 500,
            "val_eval_every": 5,
        },
        {
            "learning_rate": (3e-3, 1e-3),
            "label_smoothing": (0.1, 0.0),
            "dropout": (0.1, 0.3),
        },
        needs=("faiss",),
        reads_vectors=True,
    ),
}
"""By the name of the baseline."""


def check_baseline(name: str) -> None:
    """Raise UserError unless there is a baseline of that name."""
    known = (*COUNTS, *HOSTED)
    if name not in known:
        hint = nearest(name, known)
        raise UserError(f"no baseline {name!r}{hint}; there are {', '.join(known)}")


def check_cornac(name: str) -> str:
    """Return cornac's version; UserError where it, or what it needs for a model, is missing."""
    if missing := [module for module in (PACKAGE, *HOSTED[name].needs) if not find_spec(module)]:
        raise UserError(
            f"baseline {name}: takes the package {', '.join(missing)}: "
            "`pip install genrec-bench[baselines]`"
        )
    return version(PACKAGE)


def arguments_of(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Read words of ``--set`` as arguments of a model of cornac; values are JSON, or text.

    Raises:
        UserError: a word is not key=value, a key is given twice, or the model has no such argument.
    """
    model = getattr(import_module("cornac.models"), HOSTED[name].model)
    ours = {"self", "name", "seed", "device", "verbose", "trainable", "kwargs"}
    known = [key for key in inspect.signature(model.__init__).parameters if key not in ours]
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key in found:
            raise UserError(f"--set {word}: must be key=value, each key once")
        if key not in known:
            hint = nearest(key, known)
            raise UserError(f"--set {key}: {name} has no such argument{hint}")
        try:
            found[key] = decode_json(text)
        except ValueError:
            found[key] = text
    return found
