"""The folder of a trained policy: all that it takes to use it, wherever it is copied to.

One that is stored as an adapter needs its SFT start too, see `stored_adapters`.

    config.json, model.safetensors, tokenizer.json ...   what transformers reads
    adapter_config.json, adapter_model.safetensors,      of a policy that is stored as an adapter,
    trained_embeddings.safetensors                       in place of the first two
    items.parquet                                        the catalog: item, title, SID
    policy.json                                          how histories are written and ranked
    heads.safetensors, embeddings.safetensors            where an algorithm decodes with them
    README.md                                            the card

Nothing in it tells when, where or under which name the run was made: equal runs write equal ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from genrec_bench.data.dataset import Catalog
from genrec_bench.errors import DAMAGE, UserError, one_line
from genrec_bench.policy.adapters import Adapter
from genrec_bench.policy.backbones import backbone_name
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import spell_codes
from genrec_bench.runs.registry import source_hash
from genrec_bench.runs.request import Beginning, Request
from genrec_bench.storage.hub import cached_revision
from genrec_bench.storage.parquet import parquet_bytes, read_frame
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.budgets import shown_budget
from genrec_bench.training.checkpoints import BASE, save_policy
from genrec_bench.training.evaluate import Evaluation
from genrec_bench.training.memory import save_memory
from genrec_bench.training.sft_start import SFTStart

FOLDER = "policy"
"""Where a run keeps its policy, within its own folder."""

ITEMS, CARD, EMBEDDINGS = "items.parquet", "README.md", "embeddings.safetensors"

SIDS = "sids"
"""Name of the one tensor of the embeddings, [num_sids, E]."""

COLUMNS = ("item", "title", "sid", "codes", "popularity")
"""Of the table of items, which stand in the dataset's order."""

TOLD = ("HR@1", "HR@10", "NDCG@10")
"""Figures that the card tells, where the run has them."""

USE = "## Use\n\n"
"""Heading of the card."""

MERGE_NOTE = """This is an adapter to the weights of an SFT start, which has to be in the data
directory. To use it elsewhere, `genrec-bench policy merge FOLDER --to NEW` where the start
is, and take NEW.

"""
"""What the card of an adapter says besides."""

Found = Mapping[str, Evaluation]
"""What was found on each split."""


def needs_algorithm(algorithm: Algorithm) -> bool:
    """Return whether evaluation ranks otherwise than by the harness's own beam search."""
    return algorithm.decoding != "beam" or algorithm.reranks


def write_policy_folder(
    policy: Policy,
    request: Request,
    known: Beginning,
    before: Found,
    after: Found,
    folder: Path,
    adapter: Adapter | None = None,
) -> None:
    """Write the policy of a run that is complete.

    Args:
        before: of the SFT start, for the card; ``after``: of the policy.
        folder: replaced as a whole.
        adapter: what was merged, stored in place of the weights.

    Raises:
        StorageError: the disk refuses.
    """
    catalog, algorithm = request.dataset.catalog, request.algorithm
    about = {
        "algorithm": request.entry.name,
        "algorithm_sha256": source_hash(request.entry),
        "beam_width": request.settings.beam_width,
        "dataset": request.dataset.name,
        "decoding": algorithm.decoding,
        "dtype": request.settings.resolved()["dtype"],
        "history_length": request.dataset.card.history_length,
        "hyperparameters": dataclasses.asdict(algorithm.hyperparameters),
        "rank_shared": catalog.rank_shared,
        "reranks": algorithm.reranks,
    }
    card = card_text(request, known, before, after)
    if adapter is not None:
        about[BASE] = _base(known.start, request.backbone)
        card = card.replace(USE, USE + MERGE_NOTE)

    def beside(new: Path) -> None:
        (new / ITEMS).write_bytes(parquet_bytes(item_table(catalog)))
        (new / CARD).write_text(card, encoding="utf-8")
        save_memory(algorithm, new)
        rows, trie = policy.prefix_embeddings, policy.trie
        if needs_algorithm(algorithm) and rows.shape[1]:
            leaves = trie.leaf(torch.arange(trie.num_leaves, device=rows.device))
            save_file({SIDS: rows[leaves].contiguous().cpu()}, str(new / EMBEDDINGS))

    save_policy(policy, folder, adapter=adapter, about=about, beside=beside)


def _base(start: SFTStart, backbone: str) -> dict[str, Any]:
    """Return what is said of the weights below an adapter, made of the backbone that was given."""
    return {
        "backbone": backbone_name(backbone),
        "revision": None if Path(backbone).exists() else cached_revision(backbone),
        "start": start.folder.name,
        "weights": start.fingerprint,
    }


def item_table(catalog: Catalog) -> pd.DataFrame:
    """Return the catalog as a table of `COLUMNS`, one row an item."""
    spelled = spell_codes(catalog.codes_per_level)
    codes = catalog.sids.tolist()
    return pd.DataFrame(
        {
            "item": catalog.item_names,
            "title": catalog.titles,
            "sid": ["".join(spelled[lev][code] for lev, code in enumerate(sid)) for sid in codes],
            "codes": codes,
            "popularity": catalog.popularity,
        }
    )


def read_catalog(folder: Path, about: Mapping[str, Any]) -> Catalog:
    """Return the catalog that a policy was trained on.

    Args:
        about: the content of its ``policy.json``.

    Raises:
        UserError: the table is missing or damaged.
    """
    file = folder / ITEMS
    try:
        table = read_frame(file)
        per_level = tuple(int(count) for count in about["codes_per_level"])
        codes = np.array(table["codes"].tolist(), dtype=np.int64)
        sids = codes.reshape(len(table), len(per_level))
        names = (*table["item"], *table["title"])
        if not all(isinstance(name, str) for name in names):
            raise ValueError("names and titles of items must be texts")
        if (sids < 0).any() or (sids >= np.array(per_level)).any() or not len(sids):
            raise ValueError("codes are not below the codes per level")
        return Catalog(
            sids=sids.astype(np.int32),
            codes_per_level=per_level,
            item_names=tuple(table["item"]),
            titles=tuple(table["title"]),
            popularity=table["popularity"].to_numpy(dtype=np.int64),
            rank_shared=about["rank_shared"],
        )
    except FileNotFoundError:
        raise UserError(
            f"{file}: is missing; an earlier version wrote this policy, and the command that "
            "trained it writes it anew"
        ) from None
    except (OSError, *DAMAGE) as error:  # pyarrow's are among them
        raise UserError(f"{file}: cannot be read as a table of items: {one_line(error)}") from None


def card_text(request: Request, known: Beginning, before: Found, after: Found) -> str:
    """Write the model card."""
    dataset, settings = request.dataset, request.settings
    catalog, algorithm = dataset.catalog, request.algorithm
    name, backbone = request.entry.name, backbone_name(request.backbone)
    prompt = known.track["prompt"]
    split = list(after)[-1] if after else ""
    figures = [key for key in TOLD if split and key in after[split].metrics]
    rows = [
        f"| {label} | " + " | ".join(f"{found[split].metrics[key]:.4f}" for key in figures) + " |"
        for label, found in (("SFT start", before), (name, after))
    ]
    how = {
        (False, False): f"beam search of width {settings.beam_width} inside the catalog",
        (False, True): f"beam search of width {settings.beam_width}, ranked anew by {name}",
        (True, False): algorithm.decoding,
        (True, True): f"{algorithm.decoding}, ranked anew by {name}",
    }[algorithm.decoding != "beam", algorithm.reranks]
    partial = ", of which the training set is partial" if dataset.partial else ""
    words = (
        "The tokenizer knows codes alone: a prompt is a start token and the SIDs of the history."
        if prompt == "compact"
        else "The tokenizer is the backbone's, with a token for each code. A prompt is `question` "
        "of `policy.json`, with the SIDs of the history and `, ` between them."
    )
    table = "\n".join(
        [
            f"| {split} | " + " | ".join(figures) + " |",
            "|---" * (1 + len(figures)) + "|",
            *rows,
        ]
    )
    return f"""---
library_name: transformers
tags: [generative-recommendation, semantic-ids, {name}]
---

# {name} on {dataset.name}

A generative recommender: it reads the items that a user had, and writes the semantic ID (SID) of
the next one, code by code. Trained by genrec-bench with `{name}` from an SFT start of `{backbone}`.

- Data: {dataset.name}{partial}; {catalog.num_items} items, SIDs of {catalog.num_levels} codes.
- Budget of the training: {shown_budget(known.track["budget"])}; seed {request.seed}.
- Evaluated by {how}. Figures count items and not SIDs.

{table}

{USE}    genrec-bench recommend FOLDER --history ITEM,ITEM --k 10

or in Python

    import genrec_bench

    policy = genrec_bench.load_policy("FOLDER")
    policy.recommend(["ITEM", "ITEM"], k=10)

`{ITEMS}` has the catalog: item, title, SID. {words} Plain transformers reads both:

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained("FOLDER")
    tokenizer = AutoTokenizer.from_pretrained("FOLDER")

Its `generate` knows no catalog, so that a SID that it writes may belong to no item.

## Limits

It knows the items of its catalog and no others, reads the last {dataset.card.history_length} of a
history, and has learned what users did next, not what is good for them.
"""
