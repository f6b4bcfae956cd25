"""The good files that `fuzz.py` changes, and the commands that read them.

The world is small: 60 users, 24 items, a policy of some thousand weights. It is made by the program
itself, once; every input then works on a copy of the parts that its kind needs.
"""

from __future__ import annotations

import io
import json
import os
import pkgutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import fuzz_mutations as mutations
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from fuzz_layouts import ITEMS, LAYOUTS, made_log, made_sids, made_texts, write_layouts

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from raw_files import WRITERS, write_raw_files
from small_models import save_backbone

import genrec_bench
from genrec_bench.errors import UserError

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
SETTINGS = ("steps=2", "prompts_per_step=8", "group_size=4", "beam_width=10", "sft_epochs=1") + (
    "sft_batch=16", "sft_valid_examples=16", "pass_samples=2", "validations=1", "keep_lists=true",
)  # fmt: skip
SWEEP = ("sweep", "grpo", "--dataset", "small", "--no-mlflow", "--trials", "2") + (
    "--total-budget", "200Mflop", "--trial-budget", "60Mflop", "--set", *SETTINGS[1:],
)  # fmt: skip

COMPARE = ("compare", "--algorithms", "grpo", "--controls", "sft", "--dataset", "small") + (
    "--output", "compared", "--trials", "1", "--seeds", "1", "--budget", "60Mflop",
    "--tuning-budget", "60Mflop", "--trial-budget", "60Mflop", "--set", *SETTINGS[1:-1],
)  # fmt: skip

PLUGIN = '''"""An algorithm of one's own.

It rewards all alike.
"""

from dataclasses import dataclass

from genrec_bench.algorithm import hyperparameter
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters


@dataclass(frozen=True)
class Choices(GRPOHyperparameters):
    """One more."""

    strength: float = hyperparameter(0.5, low=0, high=2, search=(0, 2), help="how much")


class Mine(GRPO):
    """GRPO, told again."""

    hyperparameters_class = Choices
'''

METRICS = '''"""Metrics of one's own."""

import numpy as np

from genrec_bench.training.own_metrics import RankedLists, metric


@metric
def hits(lists: RankedLists) -> float:
    """How many lists hit."""
    share = lists.hits.any(axis=1).mean()
    return float(np.round(share, 3))
'''

ABLATION = """
title: What the group size does
paper: nobody's
setting: none
algorithm: grpo
tables:
  - name: "1"
    note: Shown below the table.
    metrics:
      - NDCG@10
      - {name: mean HR, mean: [HR@1, HR@5, HR@10]}
    rows:
      - {label: SFT start, sft: true}
      - label: 4 candidates
        set: [group_size=4]
        published: {industrial: [0.1, null]}
      - label: wider beam
        set: [group_size=16]
        evaluate: [beam_width=50]
"""


def build(folder: Path) -> None:
    """Make the world in an empty folder; takes some seconds. The same each time in `frozen`.

    Raises:
        RuntimeError: a command fails that should not.
    """
    for part in ("cards", "raw", "layouts", "files", "sids"):
        (folder / part).mkdir(parents=True)
    _write_cards(folder)
    write_layouts(folder / "layouts")
    _write_files(folder)
    call_or_fail(["data", "prepare", "small"])
    for layout in LAYOUTS:
        name = f"lay-{layout}"
        call_or_fail(["data", "import", layout, f"layouts/{layout}", "--as", name])
    call_or_fail(["sids", "import", "small", "sids/sids.json", "--as", "given"])
    for algorithm in ("sft", "grpo"):
        call_or_fail(["run", algorithm, "--dataset", "small", "--set", *SETTINGS])
    call_or_fail(["run", "vstar", "--dataset", "small", "--set", *SETTINGS, "lora_rank=2"])
    runs = sorted((folder / "runs" / "small").iterdir())
    for run in runs:
        run.rename(run.with_name(run.name.split("-")[0]))
    call_or_fail(["sft", "export", first_start(folder), "--to", "files/start.tar"])
    call_or_fail([*SWEEP])
    call_or_fail([*COMPARE])
    save_backbone(folder / "words")
    in_words = ("--backbone", "words", "--output", "worded", "--set", *SETTINGS, "prompt=text")
    call_or_fail(["run", "grpo", "--dataset", "small", *in_words])
    study = next((folder / "runs" / "small" / "sweeps").glob("*/study.db"))
    with closing(sqlite3.connect(study)) as database, database:
        # SQLite's own clock, which `frozen` does not reach.
        database.execute("update trial_heartbeats set heartbeat = '2026-01-02 03:04:05'")
    cut_short(["run", "grpo", "--dataset", "small", "--output", "cut", "--set", *SETTINGS])


def first_start(folder: Path) -> str:
    """Return the weights of one of the SFT starts, always the same."""
    file = min((folder / "data" / "sft").glob("small-*/sft.json"))
    return str(json.loads(file.read_text())["weights"])


def cut_short(words: Sequence[str]) -> None:
    """Call a command and stop it when all steps are taken, so that its checkpoint stays."""
    from genrec_bench.commands.cli import main

    def stopped(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with (
        mock.patch("genrec_bench.runs.post_training.merge_adapters", stopped),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        main([*words, "--no-mlflow"])


def call_or_fail(words: Sequence[str]) -> None:
    """Call a command that has to succeed."""
    from genrec_bench.commands.cli import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    if code:
        raise RuntimeError(f"{' '.join(words)}: {code}\n{out.getvalue()}{err.getvalue()}")


def shrink() -> None:
    """Make `tiny` tinier in this process, and stand in for MLflow."""
    from genrec_bench.policy import backbones
    from genrec_bench.tracking.store import Store

    backbones.TINY.update(SMALL)
    mock.patch.object(Store, "ask", answer).start()
    mock.patch.object(Store, "check", lambda store: None).start()
    # Else each input would make a database, which takes MLflow most of a second.
    mock.patch.object(Store, "_opened", lambda store: SimpleNamespace()).start()


def warm_up() -> None:
    """Import all that commands would import, so that forked processes have it."""
    for found in pkgutil.walk_packages(genrec_bench.__path__, "genrec_bench."):
        if not found.name.endswith("__main__"):
            import_module(found.name)
    for name in ("mlflow.entities", "optuna.storages", "sklearn.cluster", "matplotlib.pyplot"):
        import_module(name)


def _card(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": 1,
        "title": "Small",
        "description": "Made up.",
        "source": "Nobody.",
        "protocol": "leave-one-out",
        "history_length": 10,
        "codes_per_level": [4, 4, 4],
        "shared_sids": "popularity",
        "expected": {"source": "Nobody."},
        **changes,
    }


def _write_cards(folder: Path) -> None:
    recipe = {"method": "rq-kmeans", "embeddings": "collaborative", "collisions": "keep"}
    log, texts = made_log(), made_texts()
    for format in WRITERS:
        here = folder / "raw" / format
        here.mkdir()
        written = write_raw_files(format, here, log, texts)
        files = {"interactions": written.interactions, "items": written.items}
        raw = {
            key: {"file": path.name, "url": "http://127.0.0.1:9/x"} for key, path in files.items()
        }
        steps = [{"step": "duplicates", "keep": "first"}, {"step": "core", "users": 3, "items": 1}]
        name = "small" if format == "csv" else f"of-{format}"
        columns = {"columns": {"title": "title", "description": "description"}}
        extra = {"malformed": 0.5} | (columns if format == "csv" else {})
        card = _card(name, raw={"format": format, **raw, **extra}, filters=steps, sids=recipe)
        _dump(folder / "cards" / f"{name}.yaml", card)
        copies = folder / "data" / "downloads" / name
        copies.mkdir(parents=True)
        for path in files.values():
            (copies / path.name).write_bytes(path.read_bytes())
            os.utime(copies / path.name, (1_700_000_000, 1_700_000_000))  # known by it later
    for layout in LAYOUTS:
        split = "chronological" if layout in ("minionerec", "mimigenrec") else "leave-one-out"
        card = _card(f"lay-{layout}", layout=layout, category="Tools", protocol=split, sids=None)
        del card["sids"]
        _dump(folder / "cards" / f"lay-{layout}.yaml", card)
    world = yaml.safe_load((PACKAGE / "datasets" / "synthetic-noisy.yaml").read_text())
    _dump(folder / "cards" / "drawn.yaml", world | {"name": "drawn"})


PACKAGE = Path(__file__).resolve().parent.parent / "genrec_bench"


def _dump(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _write_files(folder: Path) -> None:
    sids, names = made_sids(), [f"I{i:02d}" for i in range(ITEMS)]
    spelled = ["".join(f"<{'abc'[n]}_{code}>" for n, code in enumerate(sid)) for sid in sids]
    here = folder / "sids"
    (here / "sids.json").write_text(json.dumps(dict(zip(names, spelled, strict=True))))
    objects = [{"item": name, "sid": sid} for name, sid in zip(names, sids, strict=True)]
    (here / "objects.json").write_text(json.dumps(objects))
    (here / "turned.json").write_text(json.dumps(dict(zip(spelled, names, strict=True))))
    (here / "sids.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects))
    rows: list[list[object]] = [["item_id", "a", "b", "c"]]
    rows += [[name, *sid] for name, sid in zip(names, sids, strict=True)]
    (here / "sids.csv").write_text(mutations.csv_of(rows))
    (here / "sids.tsv").write_text("\n".join("\t".join(map(str, row)) for row in rows) + "\n")
    (here / "sids.txt").write_text("\n".join("\t".join(map(str, row)) for row in rows) + "\n")
    pq.write_table(pa.table({"item": names, "sid": sids}), here / "sids.parquet")
    np.save(here / "sids.npy", np.array(sids, dtype="int64"))
    import torch

    torch.save(torch.tensor(sids), here / "sids.pt")
    files = folder / "files"
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype("float32")
    np.save(files / "vectors.npy", vectors)
    (files / "mine.py").write_text(PLUGIN)
    (files / "metrics.py").write_text(METRICS)
    (files / "ablation.yaml").write_text(ABLATION)
    config = {
        "algorithm": "grpo",
        "dataset": "small",
        "backbone": "tiny",
        "budget": "10Mflop",
        "seed": 1,
        "set": {"group_size": 8, "learning_rate": 1e-4, "prompt": "auto", "keep_lists": True},
    }
    _dump(files / "config.yaml", config)
    (files / "config.json").write_text(json.dumps(config))
    histories = [["I01", "I02"], ["I05"], ["I03", "I04", "I08"]]
    users = ["a", "b", "c"]
    lines = [{"user": u, "history": h} for u, h in zip(users, histories, strict=True)]
    (files / "histories.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [["user", "history"]]
    rows += [[u, ",".join(h)] for u, h in zip(users, histories, strict=True)]
    (files / "histories.csv").write_text(mutations.csv_of(rows))
    pq.write_table(pa.table({"user": users, "history": histories}), files / "histories.parquet")


def answer(store: Any, method: str, *args: Any, **more: Any) -> Any:
    """In place of MLflow: takes all that it is sent."""
    if method == "get_experiment_by_name":
        return SimpleNamespace(experiment_id="1")
    if method == "search_runs":
        return []
    info = SimpleNamespace(run_id="r", start_time=0, lifecycle_stage="active")
    return SimpleNamespace(info=info, data=SimpleNamespace(tags={}))


def environment(case: Path) -> dict[str, str]:
    """What a case sees of the world."""
    return {
        "GENREC_BENCH_CARDS": str(case / "cards"),
        "GENREC_BENCH_DATA": str(case / "data"),
        "HOME": str(case),
        "TMPDIR": str(case / "tmp"),
        "XDG_CACHE_HOME": str(case / "cache"),
        "HF_HOME": str(case / "cache"),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(case / "cache")),
    }


class Enough(UserError):
    """What an input was made for has been read."""


def refuse_to_connect(*args: Any, **more: Any) -> None:
    """In place of a network."""
    raise ConnectionRefusedError(111, "Connection refused")


def stop_early(*args: Any, **more: Any) -> None:
    """In place of long work."""
    raise Enough("this input was made for what comes before")
