"""LoRA adapters by peft, put on for a stage of training and merged into the weights after it."""

from __future__ import annotations

from typing import Any, cast

from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from genrec_bench.policy.policy import Policy


def add_adapters(policy: Policy, rank: int) -> None:
    """Freeze the backbone and train low-rank adapters of all its layers, and the embeddings.

    The embeddings are trained because a pretrained backbone has never seen a code. Rank and alpha
    (twice the rank) as in UGR's appendix C. Rank 0 leaves the policy as it is, all weights trained.
    """
    if rank == 0:
        return
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    policy.backbone = cast(PreTrainedModel, get_peft_model(policy.backbone, config))
    policy.backbone.get_input_embeddings().requires_grad_(True)
    policy.backbone.get_output_embeddings().requires_grad_(True)
    policy.count_flops()


def merge_adapters(policy: Policy) -> None:
    """Add trained adapters to the weights and take them off."""
    adapted: Any = policy.backbone
    if hasattr(adapted, "peft_config"):
        policy.backbone = adapted.merge_and_unload()
        policy.backbone.requires_grad_(True)
        policy.count_flops()
