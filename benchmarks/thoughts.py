"""Does a language model learn to think before it names an item? JSON lines, and its thoughts.

    python benchmarks/thoughts.py --backbone FILE.gguf [--dataset NAME] [--traces 300] [--steps 8]

Makes traces from a template over titles, learns some batches of them as SFT does (LoRA, prompt of
GREAM), and samples thoughts and items for histories whose traces it did not learn. It shows that
the mechanism works, and nothing of what thoughts are worth: these say what the next item is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from genrec_bench.data.dataset import Dataset
from genrec_bench.data.dataset_store import data_directory
from genrec_bench.data.obtain import obtain
from genrec_bench.decoding.thoughts import reason
from genrec_bench.policy.adapters import add_adapters
from genrec_bench.policy.added_tokens import start_codes
from genrec_bench.policy.answers import score_answers
from genrec_bench.policy.backbones import find_backbone, make_policy
from genrec_bench.policy.text_prompt import TextPrompt
from genrec_bench.progress import Progress
from genrec_bench.training.curriculum import CurriculumStepper
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.settings import Settings
from genrec_bench.training.traces import ThoughtQuestions, Traces, load_traces
from genrec_bench.training.workers import Workers

HELD_OUT, SHOWN = 6, 2
"""Traces that are not learned, whose loss is told; and how many of their users' thoughts are."""


def traces_of(dataset: Dataset, count: int) -> str:
    """Return JSON lines of traces made of the beginnings of titles, of the first examples."""

    def title(item: int) -> str:
        return " ".join(dataset.catalog.titles[item].split()[:4])

    lines = []
    for row in range(count):
        had = "; ".join(title(item) for item in dataset.train.history(row))
        wants = title(int(dataset.train.targets[row]))
        text = f"1. Evidence: {had}.\n2. Intent: next to these, {wants}."
        lines.append(json.dumps({"example": row, "text": text}) + "\n")
    return "".join(lines)


def some_of(dataset: Dataset, count: int) -> Dataset:
    """Return the dataset with so many training examples of two or three items, drawn."""
    lengths = dataset.train.history_lengths
    short = np.flatnonzero((lengths >= 2) & (lengths <= 3))
    rows = np.random.default_rng(0).choice(short, size=count, replace=False)
    train = dataset.train.subset(np.sort(rows))
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": train})


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--dataset", default="industrial")
    parser.add_argument("--data-dir")
    parser.add_argument("--traces", type=int, default=300)
    parser.add_argument("--steps", type=int, default=8, help="batches of traces that are learned")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--most", type=int, default=56, help="tokens of thoughts")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    args = parser.parse_args()
    workers = Workers(Accelerator(cpu=True) if args.device == "cpu" else None)
    whole = obtain(args.dataset, data_directory(args.data_dir), Progress())
    count = args.traces + HELD_OUT
    dataset = some_of(whole, count)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "traces.jsonl"
        file.write_text(traces_of(dataset, count))
        traces = load_traces(str(file), dataset)
    settings = Settings(prompt="gream", lora_rank=8)
    policy = make_policy(find_backbone(args.backbone), dataset, settings, workers.device)
    start_codes(policy, dataset.catalog)
    add_adapters(policy, settings.lora_rank)
    ledger = policy.meter = Ledger(workers.device)
    optimization = Optimization(
        policy, workers, learning_rate=1e-3, weight_decay=0.0, warmup=0.0, max_grad_norm=1.0
    )
    learned = Traces(traces.sha256, traces.examples[:-HELD_OUT], traces.texts[:-HELD_OUT])
    stepper = CurriculumStepper(
        policy,
        dataset,
        {},
        optimization,
        ledger,
        workers,
        traces=learned,
        epochs=1,
        pace=settings.sft_trace_pace,
        batch=args.batch,
        seed=0,
        phase="sft",
    )
    prompt_format = policy.prompt_format
    assert isinstance(prompt_format, TextPrompt)
    source = ThoughtQuestions(traces, dataset, prompt_format)
    texts = [source.write(number) for number in range(args.traces, count)]
    asked = prompt_format.question_tokens([question for question, _ in texts])
    answers = [np.concatenate(prompt_format.answer_tokens(parts)) for _, parts in texts]

    def loss() -> float:
        with torch.no_grad(), ledger.phase("evaluation"):
            return -float(score_answers(policy, asked, answers).mean())

    print(json.dumps({"before": loss()}), flush=True)
    steps = range(len(stepper) // args.batch)
    for step in [step for step in steps if stepper.curriculum.batch(step)[0]][: args.steps]:
        print(json.dumps({"loss": stepper.step(step, 0.0)["loss"]}), flush=True)
    prompts = prompt_format.encode(dataset.train, np.arange(args.traces, args.traces + SHOWN))
    with ledger.phase("evaluation"):
        found = reason(
            policy,
            prompts.to(workers.device),
            args.draws,
            most=args.most,
            temperature=settings.pass_temperature,
            top_p=settings.pass_top_p,
            key=0,
        )
    told = {"after": loss(), "thoughts": found.texts}
    spent = {phase: [cost.tokens, cost.flops] for phase, cost in ledger.spent.items()}
    print(json.dumps({**told, "tokens and FLOPs": spent}))


if __name__ == "__main__":
    main()
