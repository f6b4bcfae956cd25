"""Can FSDP2 shard a policy's layers while processes make unequal numbers of passes?

    torchrun --nproc-per-node 2 benchmarks/sharded_passes.py             # on CPUs, all weights
    torchrun --nproc-per-node 2 benchmarks/sharded_passes.py --lora      # adapters of rank 2
    torchrun --nproc-per-node 2 benchmarks/sharded_passes.py --gather-each-pass   # waits in vain

Each process rolls out and scores its own prompts of a small world, one a pass, of which one process
has more than the other. Printed are the largest difference of a gradient from that of one process,
relative to the largest gradient of its tensor, and whether an optimizer's step ends at the same
weights. The log (docs/log.md) says what the package would need to do it in runs.
"""

from __future__ import annotations

import argparse
import copy
import math
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.decoding.beam import beam_search
from genrec_bench.policy.adapters import add_adapters
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.scoring import score

CATALOG, GROUP = tiny_catalog(), 4
EXAMPLES = tiny_examples(CATALOG, 7)
ADVANTAGES = torch.randn(7, GROUP, generator=torch.Generator().manual_seed(0))


def made(lora: bool) -> Policy:
    """The same policy in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = tiny_policy(CATALOG)
        add_adapters(policy, 2 if lora else 0)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                # At 0, where they begin, nothing reaches the other half of an adapter.
                torch.nn.init.normal_(parameter, std=0.1)
    return policy


def learn(policy: Policy, rows: list[int], weight: float = 1.0) -> None:
    """Add up the gradients of some prompts, one a pass."""
    for row in rows:
        prompts = policy.prompt_format.encode(EXAMPLES, np.array([row]))
        with torch.no_grad():
            tree = beam_search(policy, prompts, GROUP)
        log_probs = score(policy, prompts, tree).log_probs.sum(dim=-1)
        (-weight * (ADVANTAGES[[row]] * log_probs).sum() / len(EXAMPLES)).backward()


def shard(policy: Policy, gather_each_pass: bool) -> list[FSDPModule]:
    """Shard the decoder's layers; embeddings and head, which others than layers read, stay."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model: Any = policy.backbone
    model = model.get_base_model() if hasattr(model, "peft_config") else model
    layers = [
        cast(FSDPModule, fully_shard(layer, mesh=mesh, reshard_after_forward=gather_each_pass))
        for layer in model.model.layers
    ]
    for layer in [] if gather_each_pass else layers:
        # From here on a pass asks nothing of the other processes.
        layer.unshard()
        layer.set_reshard_after_backward(False)
        layer.set_requires_gradient_sync(False)
    return layers


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts of all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def step(policy: Policy) -> float:
    """Clip gradients, take a step of SGD, and return the norm; torch mixes no kinds in either."""
    trained = [p for p in policy.parameters() if p.grad is not None]
    kinds = [[p for p in trained if isinstance(p, DTensor) is kind] for kind in (False, True)]
    grads = [[cast(Tensor, p.grad) for p in kind] for kind in kinds if kind]
    norm = math.hypot(*(float(whole(torch.nn.utils.get_total_norm(each))) for each in grads))
    for kind in filter(None, kinds):
        torch.nn.utils.clip_grads_with_norm_(kind, 1.0, torch.tensor(norm))
        torch.optim.SGD(kind, lr=0.1).step()
    return norm


def main() -> None:
    """Compare two processes with one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--gather-each-pass", action="store_true")
    args = parser.parse_args()
    dist.init_process_group("gloo")
    rank, count = dist.get_rank(), dist.get_world_size()
    alone = made(args.lora)
    learn(alone, list(range(len(EXAMPLES))))
    wanted = {name: p for name, p in alone.named_parameters() if p.grad is not None}
    gradients = {name: copy.deepcopy(cast(Tensor, p.grad)) for name, p in wanted.items()}
    policy = made(args.lora)
    layers = shard(policy, args.gather_each_pass)
    mine = list(range(len(EXAMPLES)))[rank::count]
    learn(policy, mine)
    print(f"process {rank}: {len(mine)} passes", flush=True)
    if not args.gather_each_pass:
        for layer in layers:
            layer.set_requires_gradient_sync(True)
        # The one pass in which all take part hands out what was added up; it has no weight.
        learn(policy, [0], weight=0.0)
        for layer in layers:
            layer.reshard()
    apart = 0.0
    for name, parameter in policy.named_parameters():
        if parameter.grad is None:
            continue
        if isinstance(parameter.grad, DTensor):
            parameter.grad.mul_(count)  # FSDP takes the mean
        else:
            dist.all_reduce(parameter.grad)
        found, right = whole(parameter.grad), gradients[name]
        apart = max(apart, float((found - right).abs().max() / right.abs().max().clamp(min=1e-12)))
    for each in (alone, policy):
        print(f"process {rank}: norm {step(each):.6f}", flush=True)
    moved = {name: whole(p.detach()) for name, p in policy.named_parameters() if name in wanted}
    weights = max(float((p - wanted[name]).abs().max()) for name, p in moved.items())
    sharded = [p for p in policy.parameters() if isinstance(p, DTensor)]
    held, all_of_them = sum(p.to_local().numel() for p in sharded), sum(p.numel() for p in sharded)
    print(
        f"process {rank}: gradients apart by {apart:.1e}, weights by {weights:.1e}; holds {held} "
        f"of {all_of_them} sharded weights",
        flush=True,
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
