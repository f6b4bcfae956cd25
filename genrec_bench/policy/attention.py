"""Attention of many small trees at once, inside any Hugging Face causal LM.

Almost all of a small policy's work is matrix products over tokens, which do not care which prompt a
token belongs to. So the tokens of all prompts run through the model as one flat row without a
single padded position; only attention, a few percent of the work, sees them as a padded grid. A
``Layout`` says where each flat token sits in the grid and which keys it may attend to: causally
within a prompt, and for a node of the candidate tree the whole prompt, its ancestors and itself.

Transformers lets attention be replaced by name; ``NAME`` is ours. The layout in force is kept in a
context variable, so that it reaches the attention of every architecture whatever arguments its
layers pass on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from genrec_bench.policy.precision import lowered

NAME = "genrec_tree"

# Arguments by which an architecture asks for attention that is more than softmax(QK)V.
UNSUPPORTED = ("softcap", "s_aux", "position_bias", "sinks")


class KeyValueStore:
    """The keys and values of prompts and of the nodes read so far, for inference.

    Each prompt has places of its own, which its tokens fill in whatever order. Storage for all of
    them is taken once; nothing is reordered or copied when it grows.
    """

    def __init__(self, num_prompts: int, capacity: int) -> None:
        """Take room for ``capacity`` places of each prompt."""
        self.capacity = capacity
        self._num_prompts = num_prompts
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def num_places(self) -> int:
        """Places of all prompts; the slot of this number is for padding."""
        return self._num_prompts * self.capacity

    def extend(
        self, layer: int, keys: Tensor, values: Tensor, slots: Tensor, used: int
    ) -> tuple[Tensor, Tensor]:
        """Write the keys and values of some tokens and return those of all.

        Args:
            keys: [1, H, R, D] keys of R tokens; their values have the same shape.
            slots: [R] the place of each token among the [B * capacity] of all prompts.
            used: how many of each prompt's places to return, from the first on.

        Returns:
            Keys and values [B, H, used, D]; 0 at places that nothing was written to.
        """
        if layer not in self._layers:
            # The last row is where padding goes.
            rows = self._num_prompts * self.capacity + 1
            # Zeros, not empty memory: a NaN there would spoil the sum although it is masked.
            self._layers[layer] = (
                keys.new_zeros(rows, keys.shape[1], keys.shape[3]),
                values.new_zeros(rows, values.shape[1], values.shape[3]),
            )
        found = []
        for stored, new in zip(self._layers[layer], (keys, values), strict=True):
            stored.index_copy_(0, slots, new[0].transpose(0, 1))
            places = stored[:-1].view(self._num_prompts, self.capacity, *stored.shape[1:])
            found.append(places[:, :used].transpose(1, 2))
        return found[0], found[1]


class _Reindex(torch.autograd.Function):
    """Gather rows by an index that has an inverse, so that the backward pass is a gather too."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor, gaps: Tensor) -> Tensor:
        ctx.save_for_backward(inverse, gaps)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inverse, gaps = ctx.saved_tensors
        # Rows that nobody read have no gradient.
        return grads[0].index_select(0, inverse).index_fill_(0, gaps, 0.0), None, None, None


_reindex: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _Reindex.apply


class Layout:
    """Where R flat tokens sit in a grid of B prompts by S positions, and what each may see.

    Attributes:
        num_tokens: R.
        num_positions: of the grid, B times S; those beyond R are padding.
        pairs: how many (token, key) pairs the grid's real positions form: each real query with each
            real key of its prompt, the number that a FLOP count needs.
    """

    def __init__(
        self,
        slots: Tensor,
        grid: tuple[int, int],
        mask: Tensor,
        pairs: int,
        store: KeyValueStore | None = None,
        store_slots: Tensor | None = None,
    ) -> None:
        """Describe a grid.

        Args:
            slots: [R] distinct positions in the flattened [B * S] grid.
            grid: (B, S).
            mask: [B, S, K] which keys each position of the grid may attend to; every row must allow
                at least one, those of padding too.
            store: keys and values of earlier tokens; K then counts each prompt's first places
                there.
            store_slots: [R] where the store keeps the tokens; see ``KeyValueStore.extend``.
        """
        self.num_tokens = len(slots)
        self.num_positions = grid[0] * grid[1]
        self.pairs = pairs
        self._store = store
        self._store_slots = store_slots
        self._grid = grid
        self._seen = mask.unsqueeze(1)
        self._mask: Tensor | None = None
        self._slots = slots
        self._dense = self.num_tokens == self.num_positions
        if not self._dense:
            token_of_slot = slots.new_full((self.num_positions,), -1)
            token_of_slot[slots] = torch.arange(self.num_tokens, device=slots.device)
            self._gaps = (token_of_slot < 0).nonzero()[:, 0]
            self._source = token_of_slot.clamp(min=0)

    def to_grid(self, states: Tensor) -> Tensor:
        """Spread [1, H, R, D] over the grid: [B, H, S, D]. Padding repeats the first token."""
        rows = states[0].transpose(0, 1)
        if not self._dense:
            rows = _reindex(rows, self._source, self._slots, self._gaps[:0])
        return rows.reshape(*self._grid, *rows.shape[1:]).transpose(1, 2)

    def keys_and_values(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the grid's queries look at: its own tokens, or what the store holds.

        Keys and values [1, H, R, D] become [B, H, K, D].
        """
        if self._store is None or self._store_slots is None:
            return self.to_grid(keys), self.to_grid(values)
        num_keys = self._seen.shape[-1]
        return self._store.extend(layer, keys, values, self._store_slots, num_keys)

    def to_flat(self, states: Tensor) -> Tensor:
        """Read the tokens back from the grid: [B, H, S, D] to [1, R, H, D]."""
        rows = states.transpose(1, 2).flatten(0, 1)
        if not self._dense:
            rows = _reindex(rows, self._slots, self._source, self._gaps)
        return rows.unsqueeze(0)

    def mask(self, dtype: torch.dtype) -> Tensor:
        """Return [B, 1, S, K] what to add to each product of query and key: 0 or -inf.

        Attention would turn a boolean mask into this one at every layer.
        """
        if self._mask is None or self._mask.dtype != dtype:
            *shape, keys = self._seen.shape
            # On a GPU attention would copy rows that do not begin at a multiple of 8.
            width = keys if self._seen.device.type == "cpu" else -(-keys // 8) * 8
            zeros = torch.zeros(*shape, width, dtype=dtype, device=self._seen.device)
            self._mask = zeros[..., :keys].masked_fill_(~self._seen, -torch.inf)
        return self._mask

    @property
    def shape(self) -> tuple[torch.Size, torch.Size]:
        """What layouts share that one recorded pass can serve, beside their store."""
        return torch.Size(self._grid), self._seen.shape

    @property
    def store(self) -> KeyValueStore | None:
        """Keys and values of earlier tokens, if there are any."""
        return self._store

    def whole(
        self, tokens: Tensor, positions: Tensor, places: int, keys: int
    ) -> tuple[Tensor, Tensor, Layout, Tensor]:
        """Give each position of a grid a token, those of padding one that nobody looks at.

        Args:
            tokens: [R], as the ``positions``.
            places: S of the grid, or more.
            keys: K, or more.

        Returns:
            [B * places] tokens and positions, their layout, and [R] where the R tokens are in it.
        """
        num_prompts, width = self._grid
        slots = self._slots // width * places + self._slots % width
        size = num_prompts * places
        of_place = tokens.new_zeros(size).index_copy_(0, slots, tokens)
        at = positions.new_zeros(size).index_copy_(0, slots, positions)
        seen = self._seen.new_zeros(num_prompts, places, keys)
        # Each query must see something.
        seen[:, width:, 0] = True
        seen[:, :width, : self._seen.shape[-1]] = self._seen[:, 0]
        every = torch.arange(size, device=tokens.device)
        kept = None
        if self._store is not None and self._store_slots is not None:
            kept = torch.full_like(every, self._store.num_places)
            kept.index_copy_(0, slots, self._store_slots)
        grid = (num_prompts, places)
        return of_place, at, Layout(every, grid, seen, self.pairs, self._store, kept), slots

    def copy(self, dtype: torch.dtype) -> Layout:
        """Return an equal layout in memory of its own, with its mask made for a number format."""
        kept = None if self._store_slots is None else self._store_slots.clone()
        seen = self._seen[:, 0].clone()
        copied = Layout(self._slots.clone(), self._grid, seen, self.pairs, self._store, kept)
        copied.mask(dtype)
        return copied

    def take(self, other: Layout) -> None:
        """Become a layout of the same shape, in the memory that this one has."""
        if self._mask is not None:
            self._mask.copy_(other.mask(self._mask.dtype))
        if self._store_slots is not None and other._store_slots is not None:
            self._store_slots.copy_(other._store_slots)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the attention of every model that runs inside this context follow the layout."""
        token = _LAYOUT.set(self)
        try:
            yield
        finally:
            _LAYOUT.reset(token)


_LAYOUT: ContextVar[Layout] = ContextVar("layout")


def present_layout() -> Layout | None:
    """Return the layout in force, if there is one."""
    return _LAYOUT.get(None)


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend by the layout in force; the signature is that of transformers' attention functions.

    Args:
        module: the attention layer, with its ``layer_idx``.
        query: [1, H, R, D].
        key: [1, H_kv, R, D], as the value; each key head serves H / H_kv query heads.
        attention_mask: ignored, the layout has its own.
        scaling: factor on the products; 1 / sqrt(D) if not given.

    Returns:
        [1, R, H, D], and no weights.

    Raises:
        ValueError: if the architecture asks for attention that this function does not compute.
    """
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ValueError(f"attention with {name!r} is not supported")
    layout = _LAYOUT.get()
    query, key, value = lowered(query), lowered(key), lowered(value)
    query = layout.to_grid(query)
    key, value = layout.keys_and_values(int(module.layer_idx), key, value)  # type: ignore[arg-type]
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key = key.repeat_interleave(repeats, dim=1)
        value = value.repeat_interleave(repeats, dim=1)
    attended = scaled_dot_product_attention(
        query, key, value, attn_mask=layout.mask(query.dtype), dropout_p=dropout, scale=scaling
    )
    return layout.to_flat(attended), None


AttentionInterface.register(NAME, tree_attention)
