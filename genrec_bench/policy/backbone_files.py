"""Whether a backbone's files are all there, before anything is loaded, fetched or prepared."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from genrec_bench.errors import UserError
from genrec_bench.storage.bounded_json import load_json
from genrec_bench.storage.hub import cached_revision, hub_files

WEIGHTS, INDEX = ".safetensors", "model.safetensors.index.json"

OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
"""Weights in formats that can run code as they are read, or that transformers no longer reads."""

TOKENIZERS = ("tokenizer", "vocab", "spiece", "sentencepiece", "tekken", "merges")
"""How the names of a tokenizer's files begin."""

GGUF, GGUF_BEGINS = ".gguf", b"GGUF"
"""A model with its tokenizer in one file, mostly in few bits, which transformers unpacks."""

TINY_HAS_NO_WORDS = "prompt={prompt}: tiny has no tokenizer; use prompt=compact or a --backbone"


def check_backbone(name: str, prompt: str) -> None:
    """Make sure that a backbone can be had and has what it needs.

    Args:
        name: as given: ``tiny``, a folder, a GGUF file, or a name of the hub; what is none of them
            passes here.
        prompt: auto, compact, or the name of a template of words.

    Raises:
        UserError: naming what is missing, and what would be right.
    """
    if name == "tiny":
        if prompt not in ("auto", "compact"):
            raise UserError(TINY_HAS_NO_WORDS.format(prompt=prompt))
        return
    folder, asked = Path(name), f"--backbone {name}"
    if is_gguf(name):
        _check_gguf(folder, asked)
        return
    if folder.is_dir():
        files: Collection[str] = {path.name for path in folder.iterdir()}
        if "config.json" not in files:
            raise lacks_model(folder, asked)
        _check_weights(folder, asked)
    elif name.startswith((".", "/", "~")) or "/" not in name:
        return
    else:
        files = hub_files(name, asked)
    if not any(file.endswith(WEIGHTS) for file in files):
        others = sorted(file for file in files if file.endswith(OTHER_WEIGHTS))
        hint = f" (only {others[0]}: save the model by save_pretrained)" if others else ""
        raise UserError(f"{asked}: holds no weights as {WEIGHTS} files{hint}")
    # A policy of ours says in a file of its own which prompts it was trained on.
    in_words = prompt != "compact" and "policy.json" not in files
    if in_words and not any(file.startswith(TOKENIZERS) for file in files):
        raise UserError(
            f"{asked}: no tokenizer among its files, which a prompt in words needs; add it, or set "
            "prompt=compact for a backbone that was trained on such prompts"
        )


def is_gguf(name: str) -> bool:
    """Return whether a backbone is named as a file of this format; it may be missing."""
    return name.endswith(GGUF) and not Path(name).is_dir()


def source_of(name: str) -> dict[str, Any]:
    """Return by which arguments transformers is asked for a backbone that is not ``tiny``."""
    if is_gguf(name):
        file = Path(name)
        return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    source: dict[str, Any] = {"pretrained_model_name_or_path": name}
    if not Path(name).is_dir() and (revision := cached_revision(name)):
        # The one that the fingerprint is made of, whatever was uploaded since.
        source["revision"] = revision
    return source


def _check_gguf(file: Path, asked: str) -> None:
    """Read the beginning of a file, and see that it can be unpacked."""
    if not file.is_file():
        raise UserError(f"{asked}: there is no such file")
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(GGUF_BEGINS))
    except OSError as error:
        raise UserError(f"{asked}: cannot be read: {error.strerror}") from None
    if begins != GGUF_BEGINS:
        raise UserError(f"{asked}: is no GGUF file")
    if find_spec("gguf") is None:
        raise UserError(f"{asked}: reading it takes a package: pip install 'genrec-bench[gguf]'")


def lacks_model(folder: Path, asked: str) -> UserError:
    """Return what to say of a folder without a model's configuration."""
    if (folder / "adapter_config.json").is_file():
        return UserError(
            f"{asked}: the folder holds an adapter and no model; `genrec-bench policy merge "
            f"{folder} --to NEW` makes a model of a run's policy"
        )
    return UserError(f"{asked}: the folder holds no config.json of a model")


def _check_weights(folder: Path, asked: str) -> None:
    """Read the heads of a folder's weights, and which files its index names."""
    for file in sorted(folder.glob(f"*{WEIGHTS}")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise UserError(f"{asked}: {file.name} is damaged: {error}") from None
    index = folder / INDEX
    if index.is_file():
        try:
            named = set(load_json(index)["weight_map"].values())
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise UserError(f"{asked}: {INDEX} cannot be read: {error}") from None
        missing = sorted(file for file in named if not (folder / str(file)).is_file())
        if missing:
            raise UserError(f"{asked}: lacks {missing[0]}, which {INDEX} names")
