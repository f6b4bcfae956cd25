"""Does everything hold on an accelerator? One command, no network, one JSON.

    make gpu-check                                      # on the CUDA device, or on the CPU, smaller
    python benchmarks/gpu_check.py --only equivalences

Asked in this order: *equivalences*, in float32 and bfloat16 (a packed tree and repeated prompts, a
beam as wide as the catalog and brute force, a batch in parts and whole, this device and the CPU);
*shapes*, time and memory of rollout and update at the sizes of Qwen2.5-0.5B and 1.5B with random
weights, as a share of the measured peak; *profile*, what a step of ``tiny`` waits for; *runs*, each
algorithm from the command line, alone and all at once, and a killed one given again.
A part that fails is named in the JSON and in the exit code, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.decoding.beam import beam_search, chunks
from genrec_bench.policy.backbones import TINY
from genrec_bench.policy.flops import measure_peak
from genrec_bench.policy.graphs import OFTEN
from genrec_bench.policy.policy import Policy, WorkCount
from genrec_bench.policy.precision import Precision
from genrec_bench.policy.prompts import CompactPrompt, Prompts
from genrec_bench.policy.scoring import score
from genrec_bench.policy.selfcheck import compare_with_repeated
from genrec_bench.policy.shapes import SHAPES
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.runs.environment import hardware, versions

QWEN = {size: SHAPES[f"Qwen/Qwen2.5-{size}"] for size in ("0.5B", "1.5B")}
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ALGORITHMS = ("sft", "grpo", "ugr", "srpo", "vstar")
RUN: dict[str, float | str] = {"steps": 40, "validations": 4, "pass_samples": 0, "sft_epochs": 0.5}
QUICK = RUN | {"steps": 4, "sft_epochs": 0.1, "prompts_per_step": 8}
"""Settings of the runs on a card and on a CPU."""
FORMATS: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16-mixed": torch.bfloat16}
TOLERANCES = {"fp32": 1e-3, "bf16-mixed": 0.25}
"""Largest differences of log-probabilities, those that loading a backbone allows."""

COSINES = {"fp32": 0.99999, "bf16-mixed": 0.99}


def make_policy(
    shape: dict[str, Any],
    vocabulary: int,
    catalog: Catalog,
    device: torch.device,
    precision: Precision,
    acceleration: str = "off",
) -> Policy:
    """A policy of random weights, drawn on the CPU, so that every device has the same."""
    prompt_format = CompactPrompt(catalog)
    size = max(vocabulary, prompt_format.vocabulary_size)
    torch.manual_seed(0)
    kept = {
        name: value for name, value in shape.items() if name not in ("model_type", "vocab_size")
    }
    config = Qwen2Config(**{"tie_word_embeddings": True, **kept}, vocab_size=size)
    room = 4096 if device.type == "cpu" else 131_072
    policy = Policy(
        Qwen2ForCausalLM(config),
        prompt_format,
        catalog,
        precision=precision,
        tokens_per_forward=room,
    )
    policy.to_device(device).eval()
    if device.type == "cuda" and acceleration == "record":
        policy.record_passes()
    return policy


def make_prompts(policy: Policy, catalog: Catalog, count: int, items: int) -> Prompts:
    """Prompts over histories of up to so many random items."""
    generator = np.random.default_rng(0)
    histories = [
        generator.integers(
            catalog.num_items, size=items if row % 4 else max(1, items // 2)
        ).tolist()
        for row in range(count)
    ]
    examples = Examples.from_lists(range(count), histories, [0] * count)
    return policy.prompt_format.encode(examples, np.arange(count)).to(policy.device)


def update(policy: Policy, prompts: Prompts, tree: CandidateTree) -> None:
    """Leave the gradients of a policy-gradient loss with fixed advantages in the policy."""
    generator = torch.Generator().manual_seed(0)
    advantages = torch.randn(tree.valid.shape, generator=generator).to(policy.device)
    read = tree.is_node & (tree.levels < tree.trie.num_levels)
    policy.zero_grad()
    for rows in chunks(prompts.lengths + read.sum(dim=1), policy.tokens_per_forward):
        scores = score(policy, prompts.select(rows), tree.select(rows))
        log_probs = scores.log_probs.sum(dim=-1)
        (-(advantages[rows] * log_probs).sum() / len(prompts)).backward()


def gradient(policy: Policy) -> Tensor:
    """All gradients as one vector, on the CPU."""
    found = [p.grad.flatten().double().cpu() for p in policy.parameters() if p.grad is not None]
    return torch.cat(found)


def cosine(left: Tensor, right: Tensor) -> float:
    """The cosine of two vectors."""
    return float(torch.nn.functional.cosine_similarity(left, right, dim=0))


def equivalences(
    device: torch.device, precision: Precision, acceleration: str = "off"
) -> dict[str, Any]:
    """Two ways to the same result, four times."""
    catalog = tiny_catalog(120, (16, 16, 16))
    policy = make_policy(SMALL, 0, catalog, device, precision, acceleration)
    prompts = make_prompts(policy, catalog, 16, 10)
    difference, _ = compare_with_repeated(policy, 40)
    number = policy.trie.num_leaves
    with torch.no_grad():
        for _ in range(1 + OFTEN):  # on a GPU the last one is replayed
            found = beam_search(policy, prompts, number)
        first = int(policy.trie.first_of_level[-1])
        leaves = (first + torch.arange(number, device=device)).expand(len(prompts), -1)
        blank = torch.zeros(*leaves.shape, policy.trie.num_levels, device=device)
        whole = CandidateTree.build(policy.trie, leaves, blank)
        brute = score(policy, prompts, whole).log_probs.sum(dim=-1)
    order = found.leaves - first
    beam = float((brute.gather(1, order) - found.sequence_log_probs()).abs().max())
    update(policy, prompts, found)
    together = gradient(policy)
    policy.tokens_per_forward = 600
    update(policy, prompts, found)
    parts = cosine(together, gradient(policy))
    elsewhere = make_policy(SMALL, 0, catalog, torch.device("cpu"), "fp32")
    there = make_prompts(elsewhere, catalog, 16, 10)
    blank = torch.zeros(*leaves.shape, policy.trie.num_levels)
    tree = CandidateTree.build(elsewhere.trie, leaves.cpu(), blank)
    with torch.no_grad():
        apart = float((score(elsewhere, there, tree).log_probs.sum(-1) - brute.cpu()).abs().max())
    figures = {
        "tree_and_repeated": difference,
        "beam_and_brute_force": beam,
        "all_sids_found": bool((order.sort(dim=1).values == leaves - first).all()),
        "parts_and_whole_gradient_cosine": parts,
        "device_and_cpu_float32": apart,
    }
    # The last two add up three codes' differences.
    tolerance = TOLERANCES[precision]
    assert difference <= tolerance, figures
    assert max(beam, apart) <= 3 * tolerance and figures["all_sids_found"], figures
    assert parts >= COSINES[precision], figures
    return figures


def timed(work: Callable[[], object], device: torch.device, times: int) -> float:
    """The median of some measurements in seconds, after one that does not count."""
    seconds = []
    for _ in range(times + 1):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def shape_times(
    shape: dict[str, Any],
    vocabulary: int,
    device: torch.device,
    precision: Precision,
    count: int,
    acceleration: str = "off",
) -> dict[str, Any]:
    """Rollout and update of ``count`` prompts of 60 tokens, 16 candidates, three codes."""
    catalog = tiny_catalog(3700, (256, 256, 256))
    policy = make_policy(shape, vocabulary, catalog, device, precision, acceleration)
    prompts = make_prompts(policy, catalog, count, 20)
    peak = measure_peak(0.6, FORMATS[precision], device)
    figures: dict[str, Any] = {
        "parameters": sum(p.numel() for p in policy.parameters()),
        "peak_tflops": peak / 1e12,
        "tokens": int(prompts.lengths.sum()),
    }
    rollout = partial(beam_search, policy, prompts, 16)
    with torch.no_grad():
        tree = rollout()
    for name, work in (("rollout", rollout), ("update", partial(update, policy, prompts, tree))):
        policy.meter = work_count = WorkCount()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with torch.set_grad_enabled(name == "update"):
            work()
            policy.meter = None
            for _ in range(OFTEN):
                work()
            seconds = timed(work, device, 5)
        figures[name] = {
            "ms": 1e3 * seconds,
            "peak_share": work_count.flops / seconds / peak,
            "tokens_per_s": work_count.tokens / seconds,
        }
        if device.type == "cuda":
            figures[name]["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6, fused=True)
    figures["adamw_ms"] = 1e3 * timed(optimizer.step, device, 5)
    return figures


def profile(device: torch.device) -> dict[str, Any]:
    """What one rollout and one update of ``tiny`` spend, kernel by kernel, and where they wait."""
    catalog = tiny_catalog(3700, (256, 256, 256))
    shape = {name: int(value) for name, value in TINY.items() if name in SMALL}
    policy = make_policy(shape, 0, catalog, device, "fp32")
    prompts = make_prompts(policy, catalog, 64, 10)
    with torch.no_grad():
        tree = beam_search(policy, prompts, 16)
    update(policy, prompts, tree)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    found: dict[str, Any] = {}
    for name in ("rollout", "update"):
        with torch.profiler.profile(activities=activities) as record:
            if name == "rollout":
                with torch.no_grad():
                    beam_search(policy, prompts, 16)
            else:
                update(policy, prompts, tree)
            synchronize(device)
        events = record.key_averages()
        found[name] = {
            "device_ms": sum(event.self_device_time_total for event in events) / 1e3,
            "launches": sum(event.count for event in events if event.key == "cudaLaunchKernel"),
            "synchronizations": {
                event.key: event.count
                for event in events
                if event.key in ("cudaStreamSynchronize", "cudaDeviceSynchronize", "aten::item")
            },
            "slowest": [
                [event.key[:60], event.count, round(event.self_device_time_total / 1e3, 3)]
                for event in sorted(events, key=lambda e: -e.self_device_time_total)[:12]
            ],
        }
    return found


def start(words: list[str], data: Path, output: Path) -> subprocess.Popen[str]:
    """Start a run on synthetic in a process of its own."""
    code = "import sys; from genrec_bench.commands.cli import main; sys.exit(main())"
    places = ["--data-dir", str(data), "--output", str(output), "--no-mlflow", "--json"]
    command = [sys.executable, "-c", code, "run", *words, *places]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a run and read its record."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    record: dict[str, Any] = json.loads(out)
    return record


def runs(values: Mapping[str, float | str], on_card: bool) -> dict[str, Any]:
    """Each algorithm for some steps, one after the other and then all at once; one is killed."""
    settings = ["--set", *(f"{key}={value}" for key, value in values.items())]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        data, output = Path(name) / "data", Path(name) / "out"
        began = time.perf_counter()
        finish(start(["sft", *settings], data, output))
        found["sft_start_s"] = time.perf_counter() - began
        records = {}
        for algorithm in ALGORITHMS:
            began = time.perf_counter()
            records[algorithm] = record = finish(start([algorithm, *settings], data, output))
            whole = time.perf_counter() - began
            found[algorithm] = {"s": whole, "spent": record["budget"]["spent"]}
            found[algorithm]["device"] = record["hardware"]["device"]
        began = time.perf_counter()
        together = [start([a, *settings, "--seed", "1"], data, output) for a in ALGORITHMS]
        for process in together:
            finish(process)
        found["all_at_once_s"] = time.perf_counter() - began
        repeated = finish(start(["srpo", *settings], data, output / "repeated"))
        process = start(["srpo", *settings], data, output / "killed")
        time.sleep(0.7 * found["srpo"]["s"])
        process.kill()
        process.communicate()
        again = finish(start(["srpo", *settings], data, output / "killed"))
        first = records["srpo"]["metrics"]
        found["repeats"] = repeated["metrics"] == first
        found["resumed"] = again["metrics"] == first
        found["ndcg"] = [
            each["metrics"]["test"]["NDCG@10"] for each in (records["srpo"], repeated, again)
        ]
        recorded = ["grpo", *settings, "acceleration=record"] if on_card else []
        if recorded:
            found["recorded"] = finish(start(recorded, data, output / "recorded"))["budget"][
                "spent"
            ]
    # Equal runs differ on a card if sums are taken in any order; one that is resumed adds nothing.
    assert found["resumed"] or not found["repeats"], found
    return found


def main() -> int:
    """Run the parts and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="PART")
    parser.add_argument("--out", type=Path, help="a file for the JSON, written after each part")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_card = device.type == "cuda"
    sizes = QWEN if on_card else {"small": SMALL}
    vocabulary, count = (int(QWEN["0.5B"]["vocab_size"]), 64) if on_card else (1000, 8)
    low: Precision = "bf16-mixed" if on_card else "fp32"
    parts: dict[str, Callable[[], Any]] = {
        "equivalences fp32": partial(equivalences, device, "fp32"),
        "equivalences bf16-mixed": partial(equivalences, device, "bf16-mixed"),
        **{
            f"equivalences {number} {how}": partial(equivalences, device, number, how)
            for number in FORMATS
            for how in (("record",) if on_card else ())
        },
        "shapes tiny": partial(
            shape_times,
            {name: int(value) for name, value in TINY.items() if name in SMALL},
            0,
            device,
            "fp32",
            count,
        ),
        **{
            f"shapes {name} {how}": partial(shape_times, shape, vocabulary, device, low, count, how)
            for name, shape in sizes.items()
            for how in (("off", "record") if on_card else ("off",))
        },
        "profile": partial(profile, device),
        "runs": partial(runs, RUN if on_card else QUICK, on_card),
    }
    result: dict[str, Any] = {"hardware": hardware(str(device)), "versions": versions()}
    failed = []
    for name, part in parts.items():
        if args.only and name.split()[0] not in args.only:
            continue
        began = time.perf_counter()
        try:
            result[name] = part()
        except Exception:
            failed.append(name)
            result[name] = {"failed": traceback.format_exc()[-1500:]}
        result[name]["seconds"] = time.perf_counter() - began
        print(f"{name}: {json.dumps(result[name])}", file=sys.stderr, flush=True)
        if on_card:
            torch.cuda.empty_cache()
        if args.out:
            args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result | {"failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
