"""``genrec-bench bench --backbone``: a step at the shape of a language model, without its weights.

Random weights take as long as trained ones. Rollout, update and the optimizer's step take turns
with transformers' way of the first two, on the same prompts and in the same precision.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, Qwen3Config

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.data.dataset import Catalog
from genrec_bench.errors import UserError, nearest, one_line
from genrec_bench.policy.attention import present_layout
from genrec_bench.policy.backbones import TINY
from genrec_bench.policy.flops import measure_peak
from genrec_bench.policy.policy import Policy, WorkCount
from genrec_bench.policy.precision import Precision, usual_precision
from genrec_bench.policy.prompts import CompactPrompt
from genrec_bench.policy.room import fit_pass, pass_size
from genrec_bench.policy.shapes import SHAPES, shape_config
from genrec_bench.progress import Progress
from genrec_bench.runs.environment import hardware, versions
from genrec_bench.studies.speed.bench import (
    Workload,
    fastest_size,
    random_examples,
    seconds_of,
    shared_share,
)
from genrec_bench.studies.speed.contenders import Ours, Rival
from genrec_bench.studies.text_tables import table_text

PROMPTS, PROMPTS_ON_CPU = 64, 4

HISTORY = 20
"""Items of a prompt: 60 codes of three levels, as in the goals."""

FORMATS = {"fp32": torch.float32, "bf16-mixed": torch.bfloat16}


@dataclass
class Padding:
    """Positions of attention's grids, and how many of them hold a token."""

    tokens: int = 0
    positions: int = 0

    @property
    def share(self) -> float:
        """The share of positions that are padding: nothing else is ever padded."""
        return 1.0 - self.tokens / self.positions if self.positions else 0.0


def find_shape(given: str) -> PretrainedConfig:
    """Return a configuration, of which nothing is loaded but the shape.

    Args:
        given: ``tiny``, a name of the hub whose shape is known here, a ``config.json``, or a
            folder that holds one.

    Raises:
        UserError: it is none of these, or of no causal language model.
    """
    if given == "tiny":
        return Qwen3Config(vocab_size=1024, **TINY)
    place = Path(given)
    known = None if place.exists() else shape_config(given)
    if known is not None:
        return known
    if not place.exists():
        raise UserError(
            f"--backbone {given}: no such file or folder, and no shape that is known here; known "
            f"are tiny, {', '.join(SHAPES)}{nearest(given, SHAPES)}"
        )
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            str(place), trust_remote_code=False, local_files_only=True
        )
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # the file is not ours: anything may be wrong with it
        raise UserError(f"--backbone {given}: no shape of a model: {one_line(error)}") from None
    return config


def bench_backbone(
    given: str,
    *,
    precision: Precision | None = None,
    prompts: int | None = None,
    device: str | None = None,
    workload: Workload | None = None,
) -> dict[str, Any]:
    """Measure a step of a language model's shape.

    Args:
        given: see `find_shape`.
        precision: by default the one of runs on this device.
        prompts: of a step.
        workload: its catalog, group and rounds count.

    Returns:
        Under ``phases``, for ``rollout``, ``update`` and ``optimizer``: milliseconds, tokens/s,
        share of the peak, memory and share of padding; under ``step`` their sum; under
        ``transformers`` the same work done its way; and whether both found the same.

    Raises:
        UserError: as `find_shape`.
    """
    config = find_shape(given)
    workload = workload or Workload(history_length=HISTORY)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    chosen = precision or usual_precision()
    count = prompts or (PROMPTS_ON_CPU if where.type == "cpu" else PROMPTS)
    workload = Workload(**{**vars(workload), "num_prompts": count})
    progress = Progress()
    progress.say(f"bench: {given} with random weights")
    catalog = tiny_catalog(workload.num_sids, workload.codes_per_level)
    policy = _policy(config, catalog, where, chosen)
    ours = Ours(policy, random_examples(catalog, workload), workload.group_size)
    # As runs make it, at a rate that changes no weight; its moments are made at first use.
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-30, weight_decay=0.0, fused=True)
    ours.update()
    optimizer.step()
    work: dict[str, Callable[[], object]] = {"rollout": ours.rollout, "update": ours.update}
    # Before transformers' model is there too.
    counted = {name: _counted(policy, does, where) for name, does in work.items()}
    rival = Rival(policy, ours.prompts, workload.group_size)
    codes = ours.codes()

    def rival_update(sequences: int) -> None:
        rival.update(codes, ours.advantages, sequences)

    progress.say("bench: finding what suits transformers")
    per_call = fastest_size(rival.rollout, count, where)
    per_forward = fastest_size(rival_update, count * workload.group_size, where)
    same = shared_share(codes, rival.rollout(per_call))
    rival.model.zero_grad()
    work |= {
        "optimizer": optimizer.step,
        "their rollout": partial(rival.rollout, per_call),
        "their update": partial(rival_update, per_forward),
    }
    timed: dict[str, list[float]] = {name: [] for name in work}
    peak = 0.0
    for number in range(workload.rounds):
        progress.say(f"bench: round {number + 1} of {workload.rounds}")
        peak = max(peak, measure_peak(workload.peak_seconds, FORMATS[chosen], where))
        for name, does in work.items():
            timed[name].append(seconds_of(does, where))
            if name == "their update":
                rival.model.zero_grad()
    seconds = {name: statistics.median(found) for name, found in timed.items()}
    phases: dict[str, dict[str, float]] = {
        name: {
            "ms": 1e3 * seconds[name],
            "tokens_per_s": figures["tokens"] / seconds[name],
            "peak_share": figures["flops"] / seconds[name] / peak,
            "memory_bytes": figures["memory_bytes"],
            "padding": figures["padding"],
        }
        for name, figures in counted.items()
    }
    phases["optimizer"] = {"ms": 1e3 * seconds["optimizer"]}
    whole = sum(seconds[name] for name in phases)
    flops = sum(figures["flops"] for figures in counted.values())
    theirs = {name: seconds[f"their {name}"] for name in ("rollout", "update")}
    return {
        "backbone": given,
        "parameters": sum(p.numel() for p in policy.parameters()),
        "precision": chosen,
        "phases": phases,
        "step": {
            "ms": 1e3 * whole,
            "prompts_per_s": count / whole,
            "tokens_per_s": sum(figures["tokens"] for figures in counted.values()) / whole,
            "peak_share": flops / whole / peak,
        },
        "transformers": {
            name: {"ms": 1e3 * found, "speedup": found / seconds[name]}
            for name, found in theirs.items()
        }
        | {"prompts_per_call": per_call, "sequences_per_forward": per_forward},
        "candidates_in_common": same,
        "peak": peak,
        "workload": {
            "num_prompts": count,
            "prompt_tokens": int(ours.prompts.lengths.max()),
            "group_size": workload.group_size,
            "num_sids": workload.num_sids,
            "codes_per_level": list(workload.codes_per_level),
            "rounds": workload.rounds,
        },
        "hardware": hardware(str(where)) | {"threads": torch.get_num_threads()},
        "versions": versions(),
    }


def _policy(
    config: PretrainedConfig, catalog: Catalog, device: torch.device, precision: Precision
) -> Policy:
    prompt_format = CompactPrompt(catalog)
    config.vocab_size = max(config.vocab_size, prompt_format.vocabulary_size)
    # Drawn where they will be: a billion numbers take a CPU half a minute.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            config, trust_remote_code=False, attn_implementation="eager", dtype=torch.float32
        )
    of_pass = fit_pass(pass_size(config, config.vocab_size), device, precision)
    policy = Policy(
        model, prompt_format, catalog, precision=precision, tokens_per_forward=of_pass.tokens
    )
    return policy.to_device(device)


def _counted(policy: Policy, work: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Do some work once and return its tokens, FLOPs, share of padding, and peak of memory."""
    policy.meter = count = WorkCount()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with _padding_of(policy) as padding:
        work()
    policy.meter = None
    memory = psutil.Process().memory_info().rss
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
    return {
        "tokens": count.tokens,
        "flops": count.flops,
        "padding": padding.share,
        "memory_bytes": memory,
    }


@contextmanager
def _padding_of(policy: Policy) -> Iterator[Padding]:
    """Count the positions of the grids that a policy's attention sees."""
    found = Padding()

    def count(*_: object) -> None:
        layout = present_layout()
        assert layout is not None, "the policy runs its decoder inside a layout"
        found.tokens += layout.num_tokens
        found.positions += layout.num_positions

    hook = policy.backbone.base_model.register_forward_pre_hook(count)
    try:
        yield found
    finally:
        hook.remove()


def backbone_text(result: Mapping[str, Any]) -> str:
    """Write the result of `bench_backbone` for people."""
    machine, step, workload = result["hardware"], result["step"], result["workload"]
    rows: list[list[object]] = []
    for name, figures in result["phases"].items():
        theirs = result["transformers"].get(name)
        counted = "peak_share" in figures
        rows.append(
            [
                name,
                f"{figures['ms']:,.1f}",
                f"{figures['tokens_per_s']:,.0f}" if counted else "",
                f"{figures['peak_share']:.0%}" if counted else "",
                f"{figures['padding']:.0%}" if counted else "",
                f"{figures['memory_bytes'] / 1e9:.2f}" if counted else "",
                f"{theirs['ms']:,.1f}" if theirs else "",
                f"{theirs['speedup']:.1f}x" if theirs else "",
            ]
        )
    whole = f"{step['ms']:,.1f}", f"{step['tokens_per_s']:,.0f}", f"{step['peak_share']:.0%}"
    rows.append(["step", *whole, "", "", "", ""])
    head = ["", "ms", "tokens/s", "of peak", "padding", "GB", "transformers ms", "speedup"]
    return (
        f"{machine['cpu']}, {machine['threads']} threads, device {machine['device']}, peak "
        f"{result['peak'] / 1e12:,.3g} TFLOP/s in {result['precision']}\n"
        f"{result['backbone']}: {result['parameters'] / 1e6:,.0f} M random weights; "
        f"{workload['num_prompts']} prompts of {workload['prompt_tokens']} tokens, "
        f"{workload['group_size']} candidates each, {workload['num_sids']} SIDs\n\n"
        f"{table_text(head, rows, 'simple', 'l' + 'r' * 7)}\n\n"
        f"{step['prompts_per_s']:,.1f} prompts/s; candidates in common "
        f"{result['candidates_in_common']:.2%}. Padding is a share of attention's grid; no other "
        "product has any."
    )
