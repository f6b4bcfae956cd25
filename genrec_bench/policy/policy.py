"""The policy: a causal language model over codes, with what algorithms add to it.

The policy turns flat rows of tokens into hidden states, hidden states into logits, and logits into
log-probabilities of codes under one declared normalisation. The wing ``decoding`` grows trees on
top of this, and ``scoring.py`` scores them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Protocol, cast, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from genrec_bench.data.dataset import Catalog
from genrec_bench.policy.attention import NAME as TREE_ATTENTION
from genrec_bench.policy.attention import Layout
from genrec_bench.policy.flops import FlopModel, ProductCount
from genrec_bench.policy.fused import fuse
from genrec_bench.policy.graphs import ForwardGraphs
from genrec_bench.policy.head import LOW, Reader, read_logits
from genrec_bench.policy.precision import Precision, passes
from genrec_bench.policy.prompts import PromptFormat
from genrec_bench.policy.trie import Trie

LogProbSpace = Literal["full", "level", "trie"]
LOGPROB_SPACES: tuple[str, ...] = get_args(LogProbSpace)


class Meter(Protocol):
    """What the policy tells of the work it does; the ledger listens."""

    def charge(self, *, tokens: int, flops: float) -> None:
        """Charge work to the phase that is open."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Open a phase for the body of a ``with`` statement."""


class WorkCount:
    """A meter that adds up tokens and FLOPs, whatever the phase."""

    tokens, flops = 0, 0.0

    def charge(self, *, tokens: int, flops: float) -> None:
        """Add work to what was done before."""
        self.tokens += tokens
        self.flops += flops

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Open nothing: all phases count alike."""
        return nullcontext()


class Policy(nn.Module):
    """A backbone, the tokens of the codes, and the heads that an algorithm asked for.

    Attributes:
        backbone: any causal LM of transformers, perhaps wrapped by peft.
        prompt_format: how histories are written.
        trie: the catalog's SIDs.
        logprob_space: over what a code's probability is normalised: the whole vocabulary
            (``full``), the codes of its level (``level``), or the codes that may follow its prefix
            (``trie``).
        heads: modules that an algorithm trains beside the backbone, by name.
        item_leaves: [num_items] the leaf of each item's SID.
        prefix_embeddings: [num_states + 1, E] the mean embedding of the SIDs under each trie state,
            0 for ``dead``; E is 0 if no embeddings were given.
        extra_tokens: ids of the tokens that an algorithm added, by name.
        precision: in what its passes compute; rollouts, training and evaluation share it.
        tokens_per_forward: how many tokens one forward pass may hold; work is cut to fit.
        meter: hears of every token and FLOP.
        graphs: recorded passes of rollouts, where there are any.
    """

    backbone: PreTrainedModel
    code_tokens: Tensor
    level_mask: Tensor
    item_leaves: Tensor
    prefix_embeddings: Tensor

    def __init__(
        self,
        backbone: PreTrainedModel,
        prompt_format: PromptFormat,
        catalog: Catalog,
        *,
        logprob_space: LogProbSpace = "full",
        precision: Precision = "fp32",
        tokens_per_forward: int = 4096,
        extra_tokens: Iterable[str] = (),
        heads: Mapping[str, nn.Module] | None = None,
        embeddings: Tensor | None = None,
    ) -> None:
        """Fit a backbone to a catalog; the backbone's embeddings grow by the tokens that it lacks.

        ``embeddings`` [num_sids, E] are those of the catalog's SIDs, for heads that read them.
        """
        super().__init__()
        names = tuple(extra_tokens)
        self.backbone = backbone
        self.prompt_format = prompt_format
        trie = Trie.build(catalog.unique_sids, catalog.codes_per_level)
        self.trie = trie
        self.logprob_space: LogProbSpace = logprob_space
        self.precision: Precision = precision
        self.tokens_per_forward = tokens_per_forward
        self.extra_tokens = {
            name: prompt_format.vocabulary_size + index for index, name in enumerate(names)
        }
        self.heads = nn.ModuleDict(heads or {})
        self.meter: Meter | None = None
        self.graphs: ForwardGraphs | None = None
        needed = prompt_format.vocabulary_size + len(names)
        if embedding_weights(backbone)[0].shape[0] < needed:
            _grow_embeddings(backbone, needed)
        self.backbone.set_attn_implementation(TREE_ATTENTION)
        fuse(backbone)
        self.count_flops()
        level_mask = torch.zeros(trie.num_levels, self.vocabulary_size, dtype=torch.bool)
        for level, count in enumerate(trie.codes_per_level):
            level_mask[level, prompt_format.code_tokens[level, :count]] = True
        self.register_buffer("code_tokens", prompt_format.code_tokens.clone(), persistent=False)
        self.register_buffer("level_mask", level_mask, persistent=False)
        item_leaves = trie.leaf(torch.from_numpy(catalog.sid_of_item.astype("int64")))
        self.register_buffer("item_leaves", item_leaves, persistent=False)
        rows = torch.zeros(trie.num_leaves, 0) if embeddings is None else embeddings.cpu()
        self.register_buffer("prefix_embeddings", trie.prefix_means(rows), persistent=False)

    def count_flops(self) -> None:
        """Measure the backbone's layers anew, after peft has changed them."""
        with self.passes():
            self.flops = FlopModel(self.backbone)

    def passes(self) -> AbstractContextManager[None]:
        """Return the context in which the backbone computes in the policy's precision."""
        return passes(self.precision, self.device)

    def record_passes(self) -> None:
        """Record passes of rollouts and replay them, on a GPU."""
        self.graphs = ForwardGraphs(torch.float32 if self.precision == "fp32" else LOW)

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the output head knows."""
        return embedding_weights(self.backbone)[1].shape[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def to_device(self, device: torch.device) -> Policy:
        """Move the weights and the trie."""
        self.to(device)
        self.trie = self.trie.to(device)
        return self

    def hidden(self, tokens: Tensor, positions: Tensor, layout: Layout, head_rows: int) -> Tensor:
        """Run the decoder over a flat row of tokens.

        Args:
            tokens: [R] token ids of all prompts and nodes, without padding.
            positions: [R] the place of each token in its prompt or on its path.
            layout: which token belongs to which prompt and sees which keys.
            head_rows: how many of these rows will be given to ``logits``; for the meter.

        Returns:
            [R, D] last hidden states, as the output head takes them, in float32.
        """
        if self.meter is not None:
            work = {"tokens": layout.num_tokens, "pairs": layout.pairs, "head_rows": head_rows}
            flops = self.flops.forward(**work)
            if torch.is_grad_enabled():
                flops += self.flops.backward(**work)
            self.meter.charge(tokens=layout.num_tokens, flops=flops)
        if self.graphs is None or torch.is_grad_enabled():
            return self._run(tokens, positions, layout)
        return self.graphs.hidden(self.backbone, self._run, tokens, positions, layout)

    def _run(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        with layout.active(), self.passes():
            output = self._decoder(
                input_ids=tokens.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False
            )
        return cast(Tensor, output.last_hidden_state[0].float())

    @property
    def _decoder(self) -> nn.Module:
        model: Any = self.backbone
        if hasattr(model, "peft_config"):
            model = model.get_base_model()
        return cast(nn.Module, model.base_model)

    def code_logits(
        self,
        hidden: Tensor,
        states: Tensor,
        temperature: float = 1.0,
        codes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Apply the output head, with an architecture's own scaling and capping, to R prefixes.

        Args:
            hidden: [R, D] the last hidden state of each prefix.
            states: [R] its trie state, not a leaf.
            temperature: divides the logits, so that all that is normalised afterwards, over
                whatever codes, is the distribution of that temperature.
            codes: [R, F] those of the next level that are asked for; all where nothing is said.

        Returns:
            [R, F] logits of the codes, or [R, K] of all of the next level, K the largest number of
            codes, any value beyond those there are; and [R] the logarithm of the sum by which their
            probabilities are normalised. Both in float32.
        """
        head = cast(nn.Linear, self.backbone.get_output_embeddings())
        level = self.trie.level[states]
        tokens = self.code_tokens[level if codes is None else (level.unsqueeze(1), codes)]

        def read(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            logits = self._scaled(logits)
            logits = logits if temperature == 1 else logits / temperature
            return logits.gather(1, tokens[rows]), self.log_normalizer(logits, states[rows])

        return read_logits(hidden, head.weight, head.bias, read, low=self.precision != "fp32")

    def read_words(self, hidden: Tensor, read: Reader) -> tuple[Tensor, Tensor]:
        """Apply the output head to [R, D], and read logits over the whole vocabulary, in pieces.

        Args:
            read: see `read_logits`.
        """
        head = cast(nn.Linear, self.backbone.get_output_embeddings())

        def scaled(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            return read(self._scaled(logits), rows)

        return read_logits(hidden, head.weight, head.bias, scaled, low=self.precision != "fp32")

    def token_log_probs(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return [R] the log-probability of tokens [R] after hidden states [R, D].

        It is normalised over the whole vocabulary, as a language model's words are.
        """

        def read(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            found = logits.gather(1, tokens[rows].unsqueeze(1)).squeeze(1)
            return found, logits.logsumexp(dim=-1)

        found, normalizer = self.read_words(hidden, read)
        return found - normalizer

    def token_logits(self, hidden: Tensor, tokens: list[int]) -> Tensor:
        """Apply the rows of the output head for k tokens to [..., D], and tell the meter.

        Returns:
            [..., k] in float32.
        """
        head = cast(nn.Linear, self.backbone.get_output_embeddings())
        if self.meter is not None:
            products = 2.0 * hidden.numel() * len(tokens)
            # Backward: as much again for the hidden states, and for the weights.
            self.meter.charge(tokens=0, flops=products * (3 if torch.is_grad_enabled() else 1))
        bias = None if head.bias is None else head.bias[tokens]
        return self._scaled(nn.functional.linear(hidden, head.weight[tokens], bias).float())

    @contextmanager
    def metered(self, phase: str) -> Iterator[None]:
        """Charge the time and the matrix products of the body, such as a head's, to a phase.

        The backward pass's products are charged here too; its time is the caller's of ``backward``.
        """
        if self.meter is None:
            yield
            return
        count = ProductCount()
        with self.meter.phase(phase):
            with count:
                yield
            self.meter.charge(tokens=0, flops=count.total(torch.is_grad_enabled()))

    def _scaled(self, logits: Tensor) -> Tensor:
        config = self.backbone.config
        multiplier = getattr(config, "logit_scale", None)
        if multiplier is not None:
            logits = logits * multiplier
        divisor = getattr(config, "logits_scaling", None)
        if divisor is not None:
            logits = logits / divisor
        cap = getattr(config, "final_logit_softcapping", None)
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        return logits

    def log_normalizer(self, logits: Tensor, states: Tensor) -> Tensor:
        """Return [R] the logarithm of the sum by which the next code's probability is normalised.

        Args:
            logits: [R, V].
            states: [R] the prefix after which each row predicts; not a leaf.
        """
        if self.logprob_space == "full":
            return logits.logsumexp(dim=-1)
        if self.logprob_space == "level":
            allowed = self.level_mask[self.trie.level[states]]
            return logits.masked_fill(~allowed, -torch.inf).logsumexp(dim=-1)
        children, real = self.trie.children(states)
        tokens = self.tokens_of(children)
        return logits.gather(-1, tokens).masked_fill(~real, -torch.inf).logsumexp(dim=-1)

    def tokens_of(self, states: Tensor) -> Tensor:
        """Return the token of the code that leads into each state; any token for ``dead``."""
        level = (self.trie.level[states] - 1).clamp(min=0)
        return self.code_tokens[level, self.trie.code[states]]


def embedding_weights(backbone: PreTrainedModel) -> tuple[nn.Parameter, nn.Parameter]:
    """Return the weights of the input embeddings and of the output head; they may be one."""
    modules = (backbone.get_input_embeddings(), backbone.get_output_embeddings())
    first, last = (cast(nn.Parameter, cast(nn.Module, module).weight) for module in modules)
    return first, last


@torch.no_grad()
def _grow_embeddings(backbone: PreTrainedModel, size: int) -> None:
    """Add tokens that start as the mean of those there are: as likely as the average one."""
    old = embedding_weights(backbone)[0].shape[0]
    # Transformers would draw the new ones from the global generator if it were left to it.
    backbone.resize_token_embeddings(size, mean_resizing=False)
    for weight in {id(weight): weight for weight in embedding_weights(backbone)}.values():
        weight[old:] = weight[:old].mean(dim=0)
