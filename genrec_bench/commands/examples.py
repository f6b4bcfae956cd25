"""Examples with which every ``--help`` ends; a test reads them as users would type them."""

from __future__ import annotations

HEAD = "examples:\n"

EXAMPLES = {
    "": ("run ugr", "compare --dataset synthetic --quick", "leaderboard synthetic"),
    "run": (
        "run ugr",
        "run ./mine.py --dataset industrial --budget 2xsft --seed 1",
        "run grpo --budget 20Mtok --set learning_rate=1e-5 group_size=8",
        "run ugr --preset ugr --dataset industrial --set group_size=8",
        "run --from-record runs/synthetic/RUN --seed 2",
    ),
    "recommend": (
        "recommend runs/synthetic/RUN --history ITEM,ITEM --k 10",
        "recommend runs/synthetic/RUN --input histories.csv --out lists.parquet",
    ),
    "sweep": (
        "sweep ugr --total-budget 6xsft --trial-budget 1xsft",
        "sweep ./mine.py --total-budget 2h --trial-budget 5m --workers 2",
    ),
    "compare": (
        "compare --quick",
        "compare --dataset industrial --algorithms grpo,./mine.py --seeds 5",
        "compare --budget 2xsft --plan",
    ),
    "ablate": (
        "ablate ugr",
        "ablate vstar --tables 2,4 --seeds 5 --budget 2xsft",
        "ablate ./mine.yaml --dataset industrial --seeds 0,3",
    ),
    "analyze": ("analyze dynamics --alphas 0,1 --seeds 3", "analyze correlation --help"),
    "analyze regime": (
        "analyze regime --plan",
        "analyze regime --dataset industrial --budgets 1,2",
    ),
    "data": ("data list", "data show synthetic", "data prepare office"),
    "data list": ("data list", "data list --json"),
    "data show": ("data show synthetic",),
    "data prepare": (
        "data prepare office",
        "data prepare beauty --reviews reviews.json.gz --metadata meta.json.gz",
    ),
    "data import": ("data import minionerec DIR --as industrial",),
    "data verify": ("data verify industrial",),
    "sids": ("sids build office --method rq-kmeans", "sids list"),
    "sids build": (
        "sids build office",
        "sids build office --method rq-kmeans --levels 4 --as mine",
        "sids build office --embeddings vectors.npy",
    ),
    "sids import": ("sids import office Office.index.json --as published",),
    "sids list": ("sids list", "sids list --json"),
    "sids show": ("sids show office", "sids show office@mine"),
    "sft": ("sft list", "sft export industrial --to start.tar", "sft import start.tar"),
    "sft list": ("sft list", "sft list --json"),
    "sft export": ("sft export industrial --to start.tar",),
    "sft import": ("sft import start.tar",),
    "algorithms": (
        "algorithms",
        "algorithms ugr",
        "algorithms ./mine.py --check",
        "algorithms new mine --from grpo",
    ),
    "presets": ("presets", "presets ugr", "presets vstar --dataset industrial"),
    "runs": ("runs list",),
    "runs list": ("runs list", "runs list --output runs --json"),
    "policy": ("policy merge runs/synthetic/RUN --to model",),
    "policy merge": ("policy merge runs/synthetic/RUN --to model",),
    "clean": ("clean", "clean policies --yes"),
    "diff": ("diff runs/synthetic/RUN runs/synthetic/OTHER",),
    "baseline": (
        "baseline popularity --dataset industrial",
        "baseline sasrec --dataset synthetic --seeds 3 --trials 8 --tuning-seconds 600",
    ),
    "export": (
        "export --dataset industrial --to recbole their-data",
        "export --dataset synthetic --to csv lists",
    ),
    "score": (
        "score lists.csv --dataset industrial --as SASRec",
        "score seed1.run --dataset industrial --as SASRec --seed 1 --training-seconds 610",
    ),
    "leaderboard": (
        "leaderboard synthetic",
        "leaderboard --csv",
        "leaderboard verify leaderboards",
    ),
    "bench": (
        "bench",
        "bench --sids 1e4,1e5,1e6,1e7",
        "bench --backbone Qwen/Qwen2.5-0.5B --precision bf16-mixed",
    ),
    "resend": ("resend", "resend --output runs --tracking-uri http://localhost:5000"),
}
"""Command lines without the program's name, by the words of a command."""


def examples_of(prog: str) -> str:
    """Return what ``--help`` of a program such as ``genrec-bench data list`` ends with."""
    name, _, words = prog.partition(" ")
    lines = EXAMPLES.get(words, (words, f"{words} --dataset industrial --budget 2xsft"))
    return HEAD + "\n".join(f"  {name} {line}" for line in lines)
