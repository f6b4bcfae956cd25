"""The kinds of input that `fuzz.py` tries: which files, how they are changed, what reads them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fuzz_binaries as binaries
import fuzz_mutations as mutations
from fuzz_layouts import LAYOUTS
from fuzz_seals import seal_cache, seal_checkpoint, seal_dataset, seal_record
from fuzz_world import COMPARE, SETTINGS, SWEEP
from raw_files import WRITERS


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        parts: files and folders of the world that its commands need.
        targets: patterns of the files below these that are changed.
        commands: one of them is called; `{file}` is the changed file.
        structured: changes by what a file says; beside them there are always those of bytes.
        seal: makes hashes right again that lie elsewhere, so that more than these is read.
        early: stop where a dataset would be obtained: what comes then is not of this input.
    """

    name: str
    parts: tuple[str, ...]
    targets: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    structured: tuple[mutations.Change, ...] = ()
    seal: Callable[[random.Random, Path, Path], None] | None = None
    early: bool = False


# ----------------------------------------------------------------------------------------- kinds

J, JL, Y, T = (
    mutations.change_json,
    mutations.change_json_lines,
    mutations.change_yaml,
    mutations.change_table,
)
P, N, S = binaries.change_parquet, binaries.change_npy, binaries.change_safetensors
QUICK = ("--no-mlflow", "--dataset", "small")
RECORD_COMMANDS = (
    ("leaderboard", "verify", "runs"),
    ("leaderboard", "verify", "--json"),
    ("leaderboard", "--to", "boards"),
    ("leaderboard", "small", "--csv", "--to", "boards"),
    ("leaderboard", "--json"),
    ("leaderboard", "--latex"),
    ("leaderboard", "add", "runs", "--to", "added"),
    ("diff", "runs/small/grpo", "runs/small/sft"),
    ("diff", "runs/small/sft", "runs/small/grpo", "--json"),
    ("run", "--from-record", "runs/small/grpo", "--print-config"),
    ("runs", "list"),
    ("runs", "list", "--json"),
    ("clean",),
    ("clean", "--json"),
)
PREPARED = ("cards", "data/small")
WITH_SIDS = (*PREPARED, "data/sids/small")
RUN = ("runs/small/grpo", "runs/small/sft")


def kinds() -> list[Kind]:
    """Return all kinds of input."""
    found = [
        Kind(
            "record", RUN, ("runs/small/grpo/record.json",), RECORD_COMMANDS, (J, J, J), seal_record
        ),
        Kind(
            "outcomes and curves",
            RUN,
            tuple(f"runs/small/grpo/{name}.parquet" for name in ("outcomes", "curves", "lists")),
            RECORD_COMMANDS,
            (P, P),
            seal_record,
        ),
        Kind(
            "run.json",
            RUN,
            ("runs/small/*/run.json",),
            (
                ("runs", "list"),
                ("clean", "--json"),
                ("clean", "unfinished", "--yes"),
                ("leaderboard", "verify", "runs"),
            ),
            (J,),
        ),
        Kind(
            "tracking",
            RUN,
            ("runs/small/*/tracking.json",),
            (("resend",), ("resend", "--json"), ("runs", "list")),
            (J, J),
        ),
        Kind(
            "config",
            ("cards", "files"),
            ("files/config.yaml", "files/config.json"),
            (
                ("run", "--config", "{file}", "--print-config"),
                ("run", "--config", "{file}", "--seed", "3", "--no-mlflow"),
            ),
            (Y, Y, J),
            early=True,
        ),
        Kind(
            "card",
            ("cards", "data/small", "data/downloads"),
            ("cards/small.yaml",),
            (
                ("data", "show", "small"),
                ("data", "list"),
                ("data", "prepare", "small", "--replace"),
                ("data", "prepare", "small"),
                ("data", "verify", "small"),
                ("sids", "list"),
                ("run", "grpo", *QUICK, "--set", *SETTINGS),
            ),
            (Y, Y),
        ),
        Kind(
            "card of a world",
            ("cards",),
            ("cards/drawn.yaml",),
            (
                ("data", "list"),
                ("data", "show", "drawn"),
                ("run", "grpo", "--dataset", "drawn", "--no-mlflow"),
            ),
            (Y, Y),
            early=True,
        ),
        Kind(
            "ablation",
            ("cards", "files"),
            ("files/ablation.yaml",),
            (("ablate", "{file}", *QUICK), ("ablate", "{file}", *QUICK, "--tables", "1")),
            (Y, Y),
            early=True,
        ),
        Kind(
            "plug-in",
            ("cards", "files"),
            ("files/mine.py",),
            (
                ("algorithms", "{file}"),
                ("algorithms", "{file}", "--json"),
                ("run", "{file}", "--print-config"),
                ("run", "{file}", *QUICK),
            ),
            (binaries.change_python, binaries.change_python),
            early=True,
        ),
        Kind(
            "own metrics",
            (*WITH_SIDS, "files"),
            ("files/metrics.py",),
            (
                ("run", "grpo", *QUICK, "--set", "metrics={file}"),
                ("run", "grpo", "--print-config", "--set", "metrics={file}"),
            ),
            (binaries.change_python, binaries.change_python),
        ),
        Kind(
            "prepared dataset",
            PREPARED,
            ("data/small/*",),
            (
                ("data", "show", "small"),
                ("data", "verify", "small"),
                ("data", "list"),
                ("sids", "list"),
            ),
            (J, P, P),
            seal_dataset,
        ),
        Kind(
            "made SIDs",
            WITH_SIDS,
            ("data/sids/small/*/manifest.json", "data/sids/small/*/sids.parquet"),
            (
                ("sids", "show", "small"),
                ("sids", "list"),
                ("data", "show", "small@given"),
                ("sids", "list", "--json"),
                ("data", "show", "small"),
            ),
            (J, P),
            seal_dataset,
        ),
        Kind(
            "embeddings",
            (*PREPARED, "files"),
            ("files/vectors.npy",),
            (
                (
                    "sids",
                    "build",
                    "small",
                    "--embeddings",
                    "{file}",
                    "--levels",
                    "2",
                    "--codes",
                    "3",
                ),
            ),
            (N, N),
        ),
        Kind(
            "policy",
            ("runs/small/grpo/policy", "runs/small/vstar/policy", "data/sft"),
            ("runs/small/*/policy/*",),
            (
                ("recommend", "{folder}", "--history", "I01,I02"),
                ("recommend", "{folder}", "--history", "I03", "--json"),
                ("policy", "merge", "runs/small/vstar/policy", "--to", "merged"),
            ),
            (J, S, P),
        ),
        Kind(
            "backbone",
            ("cards", "data/sft", *WITH_SIDS[1:]),
            ("data/sft/small-*/policy/*",),
            (
                (
                    "run",
                    "grpo",
                    *QUICK,
                    "--backbone",
                    "{folder}",
                    "--set",
                    *SETTINGS,
                    "prompt=compact",
                ),
            ),
            (J, S),
            early=False,
        ),
        Kind(
            "histories",
            ("runs/small/grpo/policy", "files"),
            ("files/histories.csv", "files/histories.jsonl", "files/histories.parquet"),
            (
                ("recommend", "runs/small/grpo/policy", "--input", "{file}", "--out", "out.csv"),
                (
                    "recommend",
                    "runs/small/grpo/policy",
                    "--input",
                    "{file}",
                    "--out",
                    "out.jsonl",
                    "--skip-unknown",
                ),
            ),
            (T, JL, P),
        ),
        Kind(
            "SFT start",
            ("cards", "data/sft"),
            ("data/sft/*/sft.json", "data/sft/*/evaluation*"),
            (
                ("sft", "list"),
                ("sft", "list", "--json"),
                ("sft", "export", "{start}", "--to", "start.tar"),
            ),
            (J, P),
            seal_cache,
        ),
        Kind(
            "SFT archive",
            ("cards", "files"),
            ("files/start.tar",),
            (("sft", "import", "{file}"), ("sft", "import", "{file}", "--replace")),
            (binaries.change_tar, binaries.change_tar),
        ),
        Kind(
            "checkpoint",
            (*WITH_SIDS, "data/sft", "cut"),
            ("cut/small/*/checkpoints/step-*/*", "cut/small/*/run.json"),
            (("run", "grpo", *QUICK, "--output", "cut", "--set", *SETTINGS),),
            (J, S),
            seal_checkpoint,
        ),
        Kind(
            "study",
            ("cards", *WITH_SIDS[1:], "data/sft", "runs/small"),
            (
                "runs/small/sweeps/*/study.db",
                "runs/small/sweeps/*/best.json",
                "runs/small/sweeps/*.db",
            ),
            (SWEEP,),
            (),
        ),
        Kind(
            "comparison",
            ("cards", *WITH_SIDS[1:], "data/sft", "compared"),
            (
                "compared/small/comparisons/*/*",
                "compared/small/comparisons/*/*.json",
                "compared/small/sweeps/*/*",
            ),
            (
                COMPARE,
                (*COMPARE, "--json"),
                (*COMPARE, "--plan"),
                ("resend", "--output", "compared"),
                ("leaderboard", "small", "--records", "compared", "--to", "boards"),
                ("runs", "list", "--output", "compared"),
                ("clean", "--output", "compared", "--json"),
            ),
            (J, T),
        ),
        Kind(
            "tokenizer",
            ("worded/small",),
            ("worded/small/*/policy/*token*", "worded/small/*/policy/special_tokens_map.json"),
            (
                ("recommend", "{folder}", "--history", "I01,I02"),
                ("recommend", "{folder}", "--history", "I03", "--json"),
            ),
            (J, J),
        ),
    ]
    for format in WRITERS:
        name = "small" if format == "csv" else f"of-{format}"
        lines: tuple[mutations.Change, ...] = (JL, JL, mutations.replace_all)
        tables: tuple[mutations.Change, ...] = (T, T, mutations.replace_all)
        is_json = format.startswith("amazon") or format == "yelp"
        words: tuple[str, ...] = ("data", "prepare", name, "--accept-counts")
        change = lines if is_json else tables
        if format.startswith("amazon"):
            change = tuple(map(mutations.compressed, (JL, JL, mutations.change_bytes)))
        found.append(
            Kind(
                f"raw {format}",
                ("cards", f"data/downloads/{name}"),
                (f"data/downloads/{name}/*",),
                (words,),
                change,
            )
        )
    for layout in LAYOUTS:
        words = ("data", "import", layout, f"layouts/{layout}", "--as", f"lay-{layout}")
        found.append(
            Kind(
                f"layout {layout}",
                ("cards", f"layouts/{layout}"),
                (f"layouts/{layout}/**/*",),
                (words,),
                (J, T, N),
            )
        )
    for suffix, changes in {
        ".json": (J, J), ".jsonl": (JL,), ".csv": (T,), ".tsv": (T,), ".txt": (T,),
        ".parquet": (P,), ".npy": (N,), ".pt": (),
    }.items():  # fmt: skip
        words = ("sids", "import", "small", "{file}", "--as", "mine")
        found.append(
            Kind(f"SIDs {suffix}", (*PREPARED, "sids"), (f"sids/*{suffix}",), (words,), changes)
        )
    found.append(
        Kind("command line", ("cards", *WITH_SIDS[1:], *RUN, "files", "sids"), (), (), early=True)
    )
    return found


def command_lines() -> list[list[str]]:
    """Return good command lines, to be changed."""
    from genrec_bench.commands.examples import EXAMPLES

    lines = [line.split() for words in EXAMPLES.values() for line in words]
    more = """
        run grpo QUICK --budget 2xsft --seed 1 --set group_size=8
        run grpo QUICK --print-config --set group_size=8 learning_rate=1e-4
        sweep grpo QUICK --total-budget 6xsft --trial-budget 1xsft --storage sqlite:///x.db
        compare QUICK --plan --algorithms grpo,sft --controls grpo:reward=random --seeds 0,1
        analyze dynamics QUICK --alphas 0,1
        leaderboard small --records runs --to boards --figures figures
        data prepare small --reviews files/histories.csv --metadata sids/sids.csv
        data show small@given
        sids build small --levels 2 --codes 4 --as x --seed 1
        sids import small sids/sids.json --as other --replace
        diff runs/small/grpo runs/small/sft
        recommend runs/small/grpo --history I01,I02 --k 3 --out x.csv
    """.replace("QUICK", " ".join(QUICK))
    lines += [line.split() for line in more.splitlines() if line.strip()]
    return lines
