"""Vectors of texts by a sentence-transformers model, which may take hours and be interrupted.

Each distinct text is encoded once, the longest first: texts of about one length waste no padding,
and memory that does not suffice shows at once. Every batch is written as soon as it is done, so
that the same call goes on where an earlier one was killed. The package is optional.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from genrec_bench.data.vectors.vector_cache import (
    cached_vectors,
    fingerprint,
    known_vectors,
    save_vectors,
    versions_of,
)
from genrec_bench.errors import UserError, nearest, one_line
from genrec_bench.progress import Progress
from genrec_bench.storage.digests import file_sha256, texts_sha256
from genrec_bench.storage.hub import NoSuchModelError, hub_files

BATCH = 256
"""Texts between two writes; the library forms its own, smaller batches of them."""

KEPT = "texts-"
"""How the names of files with vectors begin."""

OWNER = "sentence-transformers"
"""Who owns, on the hub, the models that the library knows by a name alone."""

LOADING_FAILS = (
    OSError,  # the disk, the network and the hub
    ValueError,
    RuntimeError,
    ImportError,
    LookupError,
    TypeError,
    AttributeError,
    SafetensorError,
    UnpicklingError,
)
"""What loading raises where a name, a connection or a file of the model is not as it should be."""


class Encoder(Protocol):
    """What we need of a model."""

    def encode(
        self, texts: list[str], /, *, show_progress_bar: bool
    ) -> NDArray[np.floating]:  # pragma: no cover
        """Return [n, E] vectors of n texts."""
        ...


def require_package(model: str, others: Sequence[str]) -> None:
    """Raise UserError where the package for models is missing; `model` may be misspelt `others`."""
    if find_spec("sentence_transformers") is None:
        raise UserError(
            f"embeddings={model} is none of {', '.join(others)}{nearest(model, others)}; to "
            "use a sentence-transformers model install the package: pip install "
            "'genrec-bench[text]'"
        )


def check_model(model: str, others: Sequence[str]) -> None:
    """Make sure within seconds that a model can be had, before any work is done for it.

    Args:
        model: its folder, or its name on the hub; one without an owner is the library's own.
        others: what else might have been meant.

    Raises:
        UserError: the package is not installed, or the model cannot be had.
    """
    require_package(model, others)
    if Path(model).exists():
        return
    reasons = []
    for name in [model] if "/" in model else [f"{OWNER}/{model}", model]:
        try:
            hub_files(name, f"embeddings={model}")
            return
        except UserError as error:
            reasons.append(str(error))
            if not isinstance(error, NoSuchModelError):
                break
    raise UserError(f"{reasons[0]}; other sources are {', '.join(others)}{nearest(model, others)}")


def _load(model: str, others: Sequence[str]) -> Encoder:
    """Load a model by its name on the hub or its folder, and run no code that comes with it."""
    # The library asks again and again for what cannot be had.
    check_model(model, others)
    from sentence_transformers import SentenceTransformer

    try:
        encoder: Encoder = SentenceTransformer(model, trust_remote_code=False)
    except LOADING_FAILS as error:
        raise UserError(
            f"embeddings={model}: the sentence-transformers model cannot be loaded "
            f"({one_line(error)}); other sources are {', '.join(others)}{nearest(model, others)}"
        ) from None
    return encoder


def encode_texts(
    texts: Sequence[str], model: str, cache: Path, progress: Progress, others: Sequence[str] = ()
) -> NDArray[np.float32]:
    """Return the vectors of texts, as the model gives them; zeros for blank texts.

    They are kept in `cache` under a hash of the texts, of the model (its name on the hub, or the
    files of its folder) and of the versions of the packages.

    Returns:
        [n, E], finite.

    Raises:
        UserError: the package is not installed, the model cannot be loaded, or what it gives are
            no vectors.
        StorageError: the disk refuses.
    """
    require_package(model, others)
    distinct = _distinct(texts)
    if not distinct:
        return np.zeros((len(texts), 1), dtype=np.float32)
    path, key = kept_file(texts, model, cache), _key(distinct, model)
    batches = path.with_suffix(".batches")
    vectors = cached_vectors(
        path,
        len(distinct),
        key,
        lambda: _encode(distinct, model, key, batches, progress, others),
        progress.say,
    )
    # Here and not above: the call that saved the vectors may have been killed before it got here.
    shutil.rmtree(batches, ignore_errors=True)
    row = {text: i for i, text in enumerate(distinct)}
    known = [i for i, text in enumerate(texts) if text in row]
    found = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
    found[known] = vectors[[row[texts[i]] for i in known]]
    return found


def keeps_some(cache: Path) -> bool:
    """Return whether `encode_texts` keeps vectors of any model in a folder."""
    return any(cache.glob(f"{KEPT}*"))


def kept_file(texts: Sequence[str], model: str, cache: Path) -> Path:
    """Return the file in which `encode_texts` keeps vectors, whether it is there or not."""
    return cache / f"{KEPT}{fingerprint(_key(_distinct(texts), model))}.safetensors"


def _key(distinct: Sequence[str], model: str) -> dict[str, object]:
    """Return all that vectors of texts depend on."""
    return {
        "texts": texts_sha256(distinct),
        "model": model_files(model) or model,
        "versions": versions_of(["sentence-transformers", "transformers"]),
    }


def _distinct(texts: Sequence[str]) -> list[str]:
    return sorted({text for text in texts if text.strip()}, key=lambda text: (-len(text), text))


def model_files(model: str) -> dict[str, str]:
    """Return the sha256 of each file of a model that is a folder: the next one may be another."""
    folder = Path(model)
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_sha256(path) for path in files}


def _encode(
    texts: list[str],
    model: str,
    key: Mapping[str, object],
    folder: Path,
    progress: Progress,
    others: Sequence[str],
) -> NDArray[np.float32]:
    """Encode batch after batch; those that are in the folder already are read.

    ``key`` is all that the vectors depend on.
    """
    encoder = None
    parts: list[NDArray[np.float32]] = []
    with progress.bar("encode", len(texts)) as bar:
        for first in range(0, len(texts), BATCH):
            batch = texts[first : first + BATCH]
            path = folder / f"{first:09d}.safetensors"
            made_of = {**key, "first": first}
            part = known_vectors(path, len(batch), made_of, progress.say)
            if part is None:
                if encoder is None:
                    encoder = _load(model, others)
                part = np.asarray(encoder.encode(batch, show_progress_bar=False), dtype=np.float32)
                if part.ndim != 2 or len(part) != len(batch) or not np.isfinite(part).all():
                    raise UserError(
                        f"embeddings={model}: the model gives {part.shape} numbers for "
                        f"{len(batch)} texts, not a vector of finite numbers for each"
                    )
                save_vectors(path, part, made_of)
            if parts and part.shape[1] != parts[0].shape[1]:
                raise UserError(
                    f"embeddings={model}: the model gives vectors of {part.shape[1]} numbers, and "
                    f"those in {folder} have {parts[0].shape[1]}; delete that folder"
                )
            parts.append(part)
            bar.advance(len(batch))
    return np.concatenate(parts)
