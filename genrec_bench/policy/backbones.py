"""Backbones: the embedded ``tiny`` and any causal LM of transformers, fitted to a catalog."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.errors import UserError, nearest
from genrec_bench.policy.backbone_files import (
    TINY_HAS_NO_WORDS,
    check_backbone,
    is_gguf,
    lacks_model,
    source_of,
)
from genrec_bench.policy.policy import LogProbSpace, Policy, embedding_weights
from genrec_bench.policy.precision import Precision, shrink_frozen
from genrec_bench.policy.prompts import CompactPrompt, PromptFormat, longest_prompt
from genrec_bench.policy.recomputation import recompute_layers
from genrec_bench.policy.room import FLOAT, fit_pass, pass_size
from genrec_bench.policy.selfcheck import compare_with_repeated
from genrec_bench.policy.templates import TEMPLATES, UGR
from genrec_bench.policy.text_prompt import TextPrompt, read_words
from genrec_bench.policy.trie import Trie
from genrec_bench.storage.digests import content_digest, files_digest
from genrec_bench.storage.hub import hub_revision
from genrec_bench.storage.python_files import guarded

TINY: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
"""Shape of the embedded backbone: 1.05 M parameters beside the embeddings."""

TINY_LEARNING_RATE = 1e-5
"""Peak of RL by default, found on validation data at twice the cost of SFT."""

EQUAL_WITHIN = 1e-3
"""Largest difference of log-probabilities, in float32, between a tree and repeated prompts."""

_LONGEST: WeakKeyDictionary[Examples, dict[tuple[str, ...], tuple[int, int]]] = WeakKeyDictionary()
"""The longest prompts found so far: a process makes several policies for one dataset."""

SOME_WORDS = "The user has interacted with items"
"""A tokenizer that knows none of them is none."""

UNFIT = "candidate trees cannot be packed for its attention or output head"


@dataclass(frozen=True)
class Backbone:
    """What a backbone is called, and the peak learning rates by which it is trained by default.

    Attributes:
        name: as given by the user.
        fingerprint: changes when its weights do; the shape for one made from scratch.
        from_scratch: whether its weights are drawn here.
    """

    name: str
    fingerprint: str
    from_scratch: bool
    sft_learning_rate: float
    learning_rate: float


def backbone_name(given: str) -> str:
    """Return what records call a backbone: of a folder or file the name, wherever it lies."""
    place = Path(given)
    return place.resolve().name if place.is_dir() or is_gguf(given) else given


def find_backbone(name: str) -> Backbone:
    """Look a backbone up: ``tiny``, a folder, a GGUF file, or a name on the Hugging Face hub.

    Raises:
        UserError: if a path does not hold a model.
    """
    if name == "tiny":
        shape = content_digest(repr(sorted(TINY.items())))
        return Backbone(name, shape, True, sft_learning_rate=2e-3, learning_rate=TINY_LEARNING_RATE)
    folder = Path(name)
    if is_gguf(name):
        check_backbone(name, "auto")
        digest = files_digest([folder])
    elif folder.is_dir():
        if not (folder / "config.json").is_file():
            raise lacks_model(folder, f"--backbone {name}")
        files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors"))
        digest = files_digest(files)
    elif name.startswith((".", "/", "~")) or "/" not in name:
        hint = nearest(name, ["tiny"])
        raise UserError(
            f"--backbone {name}: neither tiny, nor a folder with a model, nor a GGUF file, nor a "
            f"hub name such as Qwen/Qwen3-0.6B{hint}"
        )
    else:
        # Who owns a name may upload other weights under it.
        revision = hub_revision(name)
        digest = content_digest(f"{name}@{revision}" if revision else name)
    # UGR, appendix C.
    return Backbone(name, digest, False, sft_learning_rate=2e-4, learning_rate=2e-6)


class PolicySettings(Protocol):
    """What a policy is made of; these are some of the harness's `Settings`."""

    @property
    def prompt(self) -> str:
        """Auto, compact, or the name of a template of words."""

    @property
    def precision(self) -> str:
        """See `Precision`."""

    @property
    def logprob_space(self) -> str:
        """See `Policy`."""

    @property
    def sft_seed(self) -> int:
        """The seed of a backbone that is made from scratch."""

    @property
    def tokens_per_forward(self) -> int:
        """0 for what fits into memory."""

    @property
    def checkpointing(self) -> str:
        """Whether activations are computed again: auto, on or off."""

    @property
    def acceleration(self) -> str:
        """How a GPU is kept busy: off or record."""

    @property
    def lora_rank(self) -> int:
        """0 where all weights are trained."""


class PolicyData(Protocol):
    """What a policy is fitted to; a `Dataset` is one."""

    @property
    def catalog(self) -> Catalog:
        """Gives the codes."""

    @property
    def splits(self) -> Mapping[str, Examples]:
        """Their histories say how long prompts get."""

    @property
    def sid_fingerprint(self) -> str:
        """Hash of the codes."""


def prompt_name(backbone: Backbone, prompt: str) -> str:
    """Return which prompt format ``auto`` stands for; any other as it is."""
    if prompt != "auto":
        return prompt
    return "compact" if backbone.from_scratch else UGR.name


def make_policy(
    backbone: Backbone,
    dataset: PolicyData,
    settings: PolicySettings,
    device: torch.device,
    *,
    weights: Path | None = None,
    tokens: Iterable[str] = (),
    heads: Callable[[int, int, Trie], Mapping[str, nn.Module]] | None = None,
    embeddings: Tensor | None = None,
) -> Policy:
    """Load a backbone and fit it to a dataset.

    Args:
        dataset: its catalog gives the codes, its histories the lengths.
        weights: a folder to load the backbone from instead: an earlier stage's.
        tokens: names to add to the vocabulary.
        heads: makes modules beside the backbone for a hidden size, a size of item embeddings and
            the catalog's trie; it draws them from torch's generator.
        embeddings: [num_sids, E] of the catalog's SIDs, for heads that read them.

    Raises:
        UserError: if the backbone cannot be loaded, does not fit the catalog, is too short for a
            history, or computes attention that a tree cannot be packed for.
    """
    prompt_format = _prompt_format(backbone, dataset.catalog, settings.prompt, weights)
    model = _load(backbone, prompt_format, settings, weights)
    if settings.precision == "bf16":
        shrink_frozen(model)
    longest_allowed = most_positions(model.config) - dataset.catalog.num_levels
    longest = _longest_prompt(backbone, dataset, prompt_format, longest_allowed)
    try:
        # Heads read what the output head reads; some architectures project hidden states first.
        hidden_size = cast(nn.Linear, model.get_output_embeddings()).weight.shape[1]
        policy = Policy(
            model,
            prompt_format,
            dataset.catalog,
            logprob_space=cast(LogProbSpace, settings.logprob_space),
            precision=cast(Precision, settings.precision),
            extra_tokens=tokens,
            embeddings=embeddings,
        )
        if heads:
            size = 0 if embeddings is None else embeddings.shape[1]
            policy.heads.update(heads(hidden_size, size, policy.trie))
        policy.to_device(device)
        _fit_passes(policy, settings, device)
        difference, num_attending = compare_with_repeated(policy, longest)
        _accelerate(policy, settings, device)
    except UserError:
        raise
    except Exception as error:
        # An unknown architecture may fail in any way; an error of our own is a mistake of ours.
        if backbone.from_scratch:
            raise
        raise UserError(f"--backbone {backbone.name}: {UNFIT}: {_one_line(error)}") from error
    if num_attending != model.config.num_hidden_layers:
        raise UserError(
            f"--backbone {backbone.name}: {UNFIT}: {num_attending} of its "
            f"{model.config.num_hidden_layers} layers let their attention be replaced"
        )
    # Anything unusual in positions, masks or the output head shows as a difference here.
    tolerance = EQUAL_WITHIN if policy.precision == "fp32" else 0.25
    if not difference <= tolerance:
        raise UserError(
            f"--backbone {backbone.name}: {UNFIT}: log-probabilities of a tree and of repeated "
            f"prompts differ by {difference:.2g}"
        )
    return policy


def _fit_passes(policy: Policy, settings: PolicySettings, device: torch.device) -> None:
    """Make passes as large as memory allows, and layers be computed again where that is asked."""
    weights = {id(p): p.numel() for p in policy.parameters()}
    tables = {id(p): p.numel() for p in embedding_weights(policy.backbone)}
    trained = sum((tables if settings.lora_rank else weights).values())
    found = fit_pass(
        pass_size(policy.backbone.config, policy.vocabulary_size),
        device,
        policy.precision,
        asked=settings.tokens_per_forward,
        checkpointing=settings.checkpointing,
        # Gradients, two moments, and a copy of the best weights.
        taken=4 * FLOAT * trained,
    )
    policy.tokens_per_forward = found.tokens
    layers = recompute_layers(policy.backbone) if found.recomputes else 0
    if settings.checkpointing == "on" and not layers:
        raise UserError("checkpointing=on: transformers knows no layers of this model to repeat")


def _accelerate(policy: Policy, settings: PolicySettings, device: torch.device) -> None:
    """Keep a GPU busy as the settings say; a CPU is."""
    if settings.acceleration == "off":
        return
    if device.type != "cuda":
        raise UserError(f"acceleration=record: is for a GPU, and this runs on {device}; set off")
    policy.record_passes()


def _longest_prompt(
    backbone: Backbone, dataset: PolicyData, prompt_format: PromptFormat, allowed: int
) -> int:
    """Return the number of tokens of the longest prompt of all splits.

    Raises:
        UserError: it is more than the backbone allows.
    """
    found = [0]
    # All that decides how a history becomes tokens.
    key = (backbone.fingerprint, prompt_format.name, dataset.sid_fingerprint)
    for split, examples in dataset.splits.items():
        known = _LONGEST.setdefault(examples, {})
        if len(examples) and key not in known:
            known[key] = longest_prompt(prompt_format, examples)
        length, row = known.get(key, (0, 0))
        if length > allowed:
            raise UserError(
                f"{split} example {row}: its history takes {length} tokens as a "
                f"{prompt_format.name} prompt and the backbone allows {allowed}; use a backbone "
                "with more positions or a card with a smaller history_length"
            )
        found.append(length)
    return max(found)


def most_positions(config: PretrainedConfig) -> int:
    """Return how long a sequence may be to have positions, and to be seen whole by every layer."""
    limits = [getattr(config, "max_position_embeddings", None)]
    layers = getattr(config, "layer_types", None)
    # Trees are scored with full attention, which equals a sliding window within its width.
    if layers is None or "sliding_attention" in layers:
        limits.append(getattr(config, "sliding_window", None))
    # Some architectures have no limit, and say so by leaving it out or by a negative number.
    return min((limit for limit in limits if limit and limit > 0), default=sys.maxsize)


def _prompt_format(
    backbone: Backbone, catalog: Catalog, prompt: str, weights: Path | None
) -> PromptFormat:
    if prompt_name(backbone, prompt) == "compact":
        return CompactPrompt(catalog)
    if backbone.from_scratch:
        raise UserError(TINY_HAS_NO_WORDS.format(prompt=prompt))
    source = source_of(str(weights or backbone.name))

    def read() -> TextPrompt:
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
        (words,) = read_words(tokenizer, [SOME_WORDS], add_special_tokens=False)
        if not set(words) - {tokenizer.unk_token_id}:
            # Transformers makes an empty tokenizer where a folder has none.
            raise UserError("the words of a prompt are unknown")
        return TextPrompt(catalog, tokenizer, TEMPLATES[prompt_name(backbone, prompt)])

    # The folder is not ours: anything may be wrong with it.
    return guarded(read, f"--backbone {backbone.name}: no tokenizer: ", None)


def _load(
    backbone: Backbone, prompt_format: PromptFormat, settings: PolicySettings, weights: Path | None
) -> PreTrainedModel:
    if backbone.from_scratch and weights is None:
        config = Qwen3Config(vocab_size=prompt_format.vocabulary_size, **TINY)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.sft_seed)
            tiny: PreTrainedModel = Qwen3ForCausalLM(config)
            return tiny
    source = weights or backbone.name
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **source_of(str(source)),
            # Else weights may stay in few bits, which can be neither trained nor saved.
            quantization_config=GgufConfig(dequantize=True) if is_gguf(str(source)) else None,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:  # the folder is not ours: anything may be wrong with it
        raise UserError(f"--backbone {source}: cannot be loaded: {_one_line(error)}") from error
    model: Any = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        # Transformers would draw them at random.
        raise UserError(
            f"--backbone {source}: its files lack {len(missing)} of the weights that its "
            f"config.json describes: {', '.join(missing[:3])}"
        )
    rows = len(model.get_input_embeddings().weight)
    if prompt_format.name == "compact" and rows < prompt_format.vocabulary_size:
        raise UserError(
            f"--backbone {source}: its vocabulary of {rows} does not fit a compact "
            f"prompt over this catalog, which needs {prompt_format.vocabulary_size}"
        )
    return cast(PreTrainedModel, model)


def _one_line(error: Exception) -> str:
    """Return the beginning of what transformers says, which may be a page."""
    return shorten(str(error) or type(error).__name__, 300, placeholder=" ...")
