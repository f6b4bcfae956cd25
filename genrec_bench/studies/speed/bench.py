"""``genrec-bench bench``: how fast rollout and update are, and how fast they could be.

Three questions. *Speedup*: how much faster than the usual way (``contenders.py``) on the same
model, prompts and machine, both finding the same candidates and the same gradient, which the same
run checks. *Share of peak*: how much of the machine's measured matrix-product rate the useful
operations reach, those on real tokens, as the ledger counts them. The first is asked of ``tiny``,
which is what ``run`` trains on a CPU; the second of a larger policy, whose products are large
enough to reach the peak at all.

What is compared takes turns, so that whatever else the machine does meets all of it alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.policy.backbones import TINY
from genrec_bench.policy.flops import measure_peak
from genrec_bench.progress import Progress
from genrec_bench.runs.environment import hardware, versions
from genrec_bench.studies.speed.contenders import Ours, Rival, random_policy

LARGE = {
    **TINY,
    "hidden_size": 320,
    "intermediate_size": 1280,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "head_dim": 64,
}
"""Shape of the policy whose share of the peak counts: 6.6 M parameters beside the embeddings.

Deeper and narrower ones of that size reach less, since what is not a product grows with depth.
"""

PARTS = (8, 4, 1)
"""Into how many parts the rival may cut its work; it is measured with the fastest in a trial."""

TURNS = (
    "small rollout",
    "rival rollout",
    "small rollout",
    "large rollout",
    "small update",
    "rival update",
    "small update",
    "large update",
)
"""What is short is measured before and after what it is compared with."""

SEARCHES = ((1, 1), (4, 1), (4, 8))
"""Budgets of VED, in multiples of the beam's tokens, and traversals of a prompt in a round."""


@dataclass(frozen=True)
class Workload:
    """What is measured.

    Attributes:
        history_length: items of each prompt.
        num_sids: of the catalog, drawn at random.
        small: shape of the policy that is compared with its rival.
        large: shape of the policy whose share of the peak counts.
        rounds: how often everything takes its turn.
        peak_seconds: how long each round measures the peak.
    """

    num_prompts: int = 64
    history_length: int = 10
    group_size: int = 16
    num_sids: int = 3700
    codes_per_level: tuple[int, ...] = (256, 256, 256)
    small: Mapping[str, Any] = field(default_factory=lambda: TINY)
    large: Mapping[str, Any] = field(default_factory=lambda: LARGE)
    rounds: int = 5
    peak_seconds: float = 0.6


def bench(workload: Workload | None = None, device: str | None = None) -> dict[str, Any]:
    """Measure rollout and update, by default on a CUDA device if there is one.

    Returns:
        Under ``rollout`` and ``update``: ``speedup`` over the rival, ``peak_share`` of the large
        policy, ``prompts_per_s`` of the small one, and what they are made of, in seconds and FLOPs;
        under ``agreement`` whether ours and the rival did the same; under ``ved``, for each of
        ``SEARCHES``, the ``ratio`` of its time to that of a beam of the same budget. The rest
        describes the machine and the workload.
    """
    workload = workload or Workload()
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    progress = Progress()
    progress.say("bench: warming up, and finding what suits the rival")
    catalog = tiny_catalog(workload.num_sids, workload.codes_per_level)
    examples = random_examples(catalog, workload)
    small, large = (
        Ours(random_policy(shape, catalog, where), examples, workload.group_size)
        for shape in (workload.small, workload.large)
    )
    rival = Rival(small.policy, small.prompts, workload.group_size)
    codes, num_prompts = small.codes(), workload.num_prompts

    def rival_update(sequences: int) -> None:
        rival.update(codes, small.advantages, sequences)

    prompts_per_call = fastest_size(rival.rollout, num_prompts, where)
    sequences = fastest_size(rival_update, num_prompts * workload.group_size, where)
    work: dict[str, Callable[[], object]] = {
        "small rollout": small.rollout,
        "small update": small.update,
        "large rollout": large.rollout,
        "large update": large.update,
    }
    flops = {
        name: (small if name.startswith("small") else large).flops(does)
        for name, does in work.items()
    }
    agreement = {
        "candidates": shared_share(codes, rival.rollout(prompts_per_call)),
        "gradient_cosine": _cosine(small.policy.backbone, rival.model),
    }
    work["rival rollout"] = partial(rival.rollout, prompts_per_call)
    work["rival update"] = partial(rival_update, sequences)
    for scale, traversals in SEARCHES:
        work[f"beam beside {scale}, {traversals}"] = partial(small.rollout, scale)
        work[f"ved {scale}, {traversals}"] = partial(small.search, scale, traversals)
    turns = [*TURNS, *(name for name in work if name not in TURNS)]
    seconds, peak = _take_turns(work, turns, workload, where, progress)
    result: dict[str, Any] = {}
    for kind in ("rollout", "update"):
        ours = {}
        for size in ("small", "large"):
            name = f"{size} {kind}"
            ours[size] = _figures(seconds[name], num_prompts) | {"flops": flops[name]}
            ours[size]["peak_share"] = flops[name] / ours[size]["seconds"] / peak
        rival_figures = _figures(seconds[f"rival {kind}"], num_prompts)
        result[kind] = {
            "speedup": rival_figures["seconds"] / ours["small"]["seconds"],
            "peak_share": ours["large"]["peak_share"],
            "prompts_per_s": ours["small"]["prompts_per_s"],
            **ours,
            "rival": rival_figures,
        }
    result["rollout"]["rival"]["prompts_per_call"] = prompts_per_call
    result["update"]["rival"]["sequences_per_forward"] = sequences
    result["ved"] = [
        _compare_search(scale, traversals, small, seconds, num_prompts)
        for scale, traversals in SEARCHES
    ]
    return result | {
        "agreement": agreement,
        "peak": peak,
        "hardware": hardware(str(where)) | {"threads": torch.get_num_threads()},
        "versions": versions(),
        "workload": asdict(workload)
        | {
            f"{name}_parameters": sum(p.numel() for p in ours.policy.parameters())
            for name, ours in (("small", small), ("large", large))
        },
    }


def random_examples(catalog: Catalog, workload: Workload) -> Examples:
    """Return histories of random items, all of one length."""
    generator = np.random.default_rng(0)
    shape = (workload.num_prompts, workload.history_length)
    histories = generator.integers(catalog.num_items, size=shape)
    users = range(workload.num_prompts)
    return Examples.from_lists(users, histories.tolist(), [0] * workload.num_prompts)


def _clock(device: torch.device) -> float:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Do some work and return the seconds until the device is done with it."""
    start = _clock(device)
    work()
    return _clock(device) - start


def fastest_size(work: Callable[[int], object], whole: int, device: torch.device) -> int:
    """Return with how much at a time the work is done fastest."""
    sizes = sorted({max(1, whole // parts) for parts in PARTS})
    work(sizes[0])  # untimed: whatever happens at first use
    return min(sizes, key=lambda size: seconds_of(lambda: work(size), device))


def _compare_search(
    scale: int, traversals: int, ours: Ours, seconds: Mapping[str, list[float]], num_prompts: int
) -> dict[str, Any]:
    beam, search = (
        _figures(seconds[f"{name} {scale}, {traversals}"], num_prompts)
        for name in ("beam beside", "ved")
    )
    found = ours.search(scale, traversals)
    return {
        "token_budget": scale,
        "traversals_per_round": traversals,
        "ratio": search["seconds"] / beam["seconds"],
        "rounds": found.rounds,
        "tokens": float(found.tokens.float().mean()),
        "beam": beam,
        "ved": search,
    }


def _take_turns(
    work: Mapping[str, Callable[[], object]],
    turns: Sequence[str],
    workload: Workload,
    device: torch.device,
    progress: Progress,
) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each piece of work, and the peak in FLOP/s."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    peak = 0.0
    for number in range(workload.rounds):
        progress.say(f"bench: round {number + 1} of {workload.rounds}")
        peak = max(peak, measure_peak(workload.peak_seconds, torch.float32, device))
        for name in turns:
            seconds[name].append(seconds_of(work[name], device))
    return seconds, peak


def _figures(seconds: list[float], num_prompts: int) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {
        "seconds": median,
        "fastest": min(seconds),
        "slowest": max(seconds),
        "prompts_per_s": num_prompts / median,
    }


def shared_share(ours: Tensor, theirs: Tensor) -> float:
    """Return the share of our candidates that the rival found for the same prompt."""
    same = (ours.unsqueeze(2) == theirs.unsqueeze(1)).all(dim=-1)
    return float(same.any(dim=2).float().mean())


def _cosine(ours: torch.nn.Module, theirs: torch.nn.Module) -> float:
    left, right = (
        torch.cat([p.grad.flatten().double() for p in module.parameters() if p.grad is not None])
        for module in (ours, theirs)
    )
    return float(cosine_similarity(left, right, dim=0))


def bench_text(result: Mapping[str, Any]) -> str:
    """Write the result of ``bench`` as text for a person."""
    machine, workload, agreement = result["hardware"], result["workload"], result["agreement"]
    lines = [
        f"{machine['cpu']}, {machine['threads']} threads, device {machine['device']}, "
        f"peak {result['peak'] / 1e9:,.0f} GFLOP/s",
        f"{workload['num_prompts']} prompts of {workload['history_length']} items, "
        f"{workload['group_size']} candidates each, {workload['num_sids']} SIDs; policies of "
        f"{workload['small_parameters'] / 1e6:.2f} M (small) and "
        f"{workload['large_parameters'] / 1e6:.2f} M (large) parameters",
        "",
        f"{'':10}{'transformers':>14}{'ours':>10}{'speedup':>10}{'prompts/s':>11}"
        f"{'of peak: small':>16}{'large':>8}",
    ]
    for kind in ("rollout", "update"):
        row = result[kind]
        lines.append(
            f"{kind:10}{row['rival']['seconds']:12.2f} s{row['small']['seconds']:8.3f} s"
            f"{row['speedup']:9.1f}x{row['prompts_per_s']:11,.0f}"
            f"{row['small']['peak_share']:16.0%}{row['peak_share']:8.0%}"
        )
    lines += ["", f"{'budget':10}{'traversals a round':>20}{'beam':>10}{'VED':>10}{'ratio':>8}"]
    for row in result["ved"]:
        lines.append(
            f"{row['token_budget']:<10}{row['traversals_per_round']:20}"
            f"{row['beam']['seconds']:8.3f} s{row['ved']['seconds']:8.3f} s{row['ratio']:7.2f}x"
        )
    lines += [
        "",
        f"candidates in common {agreement['candidates']:.2%}, "
        f"cosine of the gradients {agreement['gradient_cosine']:.7f}",
    ]
    return "\n".join(lines)
