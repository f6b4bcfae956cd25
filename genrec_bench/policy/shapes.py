"""Shapes of language models that papers post-train, as their ``config.json`` has them.

They let memory and work be told, and speed be measured, where no weights and no network are.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

_QWEN: dict[str, Any] = {"vocab_size": 151936, "rms_norm_eps": 1e-6, "hidden_act": "silu"}
_QWEN2 = {**_QWEN, "model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": True}
_QWEN3 = {**_QWEN, "model_type": "qwen3", "rope_theta": 1e6, "head_dim": 128}


def _sizes(hidden: int, inner: int, layers: int, heads: int, shared: int) -> dict[str, int]:
    """Return widths and counts; ``shared`` is how many heads keys and values have."""
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
    }


_TIED = {"tie_word_embeddings": True, "max_position_embeddings": 40960}
_LONG = {"tie_word_embeddings": True, "max_position_embeddings": 262144, "rope_theta": 5e6}
_UNTIED = {"tie_word_embeddings": False, "max_position_embeddings": 40960}
_HALF = {**_QWEN2, **_sizes(896, 4864, 24, 14, 2), "max_position_embeddings": 32768}
_ONE = {**_QWEN2, **_sizes(1536, 8960, 28, 12, 2)}

SHAPES: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-0.5B": _HALF,
    "Qwen/Qwen2.5-0.5B-Instruct": _HALF,
    "Qwen/Qwen2.5-1.5B": {**_ONE, "max_position_embeddings": 131072},
    "Qwen/Qwen2.5-1.5B-Instruct": {**_ONE, "max_position_embeddings": 32768},
    "Qwen/Qwen3-0.6B": {**_QWEN3, **_sizes(1024, 3072, 28, 16, 8), **_TIED},
    "Qwen/Qwen3-4B-Instruct-2507": {**_QWEN3, **_sizes(2560, 9728, 36, 32, 8), **_LONG},
    "Qwen/Qwen3-8B": {**_QWEN3, **_sizes(4096, 12288, 36, 32, 8), **_UNTIED},
}
"""By name on the hub."""


def shape_config(name: str) -> PretrainedConfig | None:
    """Return the configuration of a model whose shape is known here; None for any other name."""
    shape = SHAPES.get(name)
    if shape is None:
        return None
    rest = dict(shape)
    config: PretrainedConfig = AutoConfig.for_model(rest.pop("model_type"), **rest)
    return config
