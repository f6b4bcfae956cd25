"""Rollouts on a GPU without launching kernel after kernel: passes are recorded, and replayed.

A decoder layer is some forty small kernels, and a GPU has run each of them sooner than Python has
launched the next: the time of a rollout is that of its launches. A CUDA graph launches all kernels
of a pass at once. It wants the same shapes in the same memory each time, so passes are laid out as
whole grids, prompts are padded to a multiple of ``STEP`` places, and keys and values stay in stores
that are used again.
"""

from __future__ import annotations

import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genrec_bench.policy.attention import KeyValueStore, Layout

STEP, STEP_OF_NODES = 16, 8
"""Prompts and their new nodes are padded to a multiple of so many, so that few shapes occur."""

MOST_TOKENS = 16_384
"""Larger passes keep a GPU busy for longer than their launches take."""

OFTEN = 2
"""A shape is recorded after so many passes: one that comes but once is not worth it."""

MOST_GRAPHS, MOST_STORES = 64, 16
"""What was used last is kept."""

Forward = Callable[[Tensor, Tensor, Layout], Tensor]
"""Runs the decoder: [R] tokens and positions and their layout to [R, D] hidden states."""

Replay = Callable[[], Tensor]
"""Runs a recorded pass over what its inputs now hold, and returns its hidden states."""

Record = Callable[[Callable[[], Tensor]], Replay]
"""Records a pass."""


@dataclass
class _Recorded:
    tokens: Tensor
    positions: Tensor
    layout: Layout
    replay: Replay


class ForwardGraphs:
    """The recorded passes of one model by their shapes, and the stores that they write to."""

    def __init__(self, products: torch.dtype, record: Record | None = None) -> None:
        """Hold no recordings yet.

        Args:
            products: what attention computes in.
            record: records a pass; as a CUDA graph if not given.
        """
        self._products = products
        self._record_pass = CudaRecorder() if record is None else record
        self._recorded: OrderedDict[tuple[object, ...], _Recorded] = OrderedDict()
        self._came: Counter[tuple[object, ...]] = Counter()
        self._stores: OrderedDict[tuple[int, int], list[KeyValueStore]] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> ForwardGraphs:
        """A copy of a model has weights, and so recordings, of its own."""
        return ForwardGraphs(self._products, self._record_pass)

    def padded(self, places: int) -> int:
        """Return to how many places prompts are padded."""
        return -(-places // STEP) * STEP

    def lend(self, borrower: object, num_prompts: int, capacity: int) -> KeyValueStore:
        """Return a store for as long as its borrower lives; see ``KeyValueStore``."""
        if num_prompts * capacity > MOST_TOKENS:
            return KeyValueStore(num_prompts, capacity)
        shape = (num_prompts, capacity)
        free = self._stores.setdefault(shape, [])
        self._stores.move_to_end(shape)
        if len(self._stores) > MOST_STORES:
            for store in self._stores.popitem(last=False)[1]:
                self._forget(store)
        store = free.pop() if free else KeyValueStore(num_prompts, capacity)
        weakref.finalize(borrower, free.append, store).atexit = False
        return store

    def _forget(self, store: KeyValueStore) -> None:
        for key in [key for key in self._recorded if store in key]:
            del self._recorded[key]

    def hidden(
        self,
        model: nn.Module,
        forward: Forward,
        tokens: Tensor,
        positions: Tensor,
        layout: Layout,
    ) -> Tensor:
        """Return [R, D] hidden states of R tokens, replayed where such passes came before.

        ``forward`` runs ``model``, whose weights may change where they are, or be others.
        """
        if layout.store is None or layout.store.num_places > MOST_TOKENS:
            return forward(tokens, positions, layout)
        # Recorded or not, the same is computed: a resumed run records later than the first did.
        tokens, positions, layout, slots = layout.whole(tokens, positions, *self._shape(layout))
        key = (*layout.shape, layout.store, _state(model))
        recorded = self._recorded.get(key)
        if recorded is None:
            self._came[key] += 1
            if self._came[key] <= OFTEN:
                return forward(tokens, positions, layout).index_select(0, slots)
            del self._came[key]
            recorded = self._record(forward, tokens, positions, layout)
            self._recorded[key] = recorded
            if len(self._recorded) > MOST_GRAPHS:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        recorded.tokens.copy_(tokens)
        recorded.positions.copy_(positions)
        recorded.layout.take(layout)
        return recorded.replay().index_select(0, slots)

    def _shape(self, layout: Layout) -> tuple[int, int]:
        """Return for how many nodes and keys of a prompt there is a recording: for few numbers."""
        (_, places), (*_, keys) = layout.shape
        if places == keys or layout.store is None:
            return places, keys
        return -(-places // STEP_OF_NODES) * STEP_OF_NODES, layout.store.capacity

    def _record(
        self, forward: Forward, tokens: Tensor, positions: Tensor, layout: Layout
    ) -> _Recorded:
        tokens, positions, layout = tokens.clone(), positions.clone(), layout.copy(self._products)
        replay = self._record_pass(lambda: forward(tokens, positions, layout))
        return _Recorded(tokens, positions, layout, replay)


class CudaRecorder:
    """Records passes as CUDA graphs, whose temporary memory is one pool."""

    def __init__(self) -> None:
        """Take no memory yet."""
        self._pool: Any = None

    def __call__(self, run: Callable[[], Tensor]) -> Replay:
        """Record ``run``; what a replay returns holds until any other recorded pass."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Libraries take their workspaces with the first products on a stream.
            run()
        torch.cuda.current_stream().wait_stream(stream)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that sends curves, may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            hidden = run()

        def replay() -> Tensor:
            graph.replay()
            return hidden

        return replay


def _state(model: nn.Module) -> tuple[object, ...]:
    """Return what else a recorded pass depends on: where weights are, and which are used."""
    weights = tuple(each.data_ptr() for each in model.parameters())
    adapters = [vars(each).get("_disable_adapters") for each in model.modules()]
    return hash(weights), hash(tuple(adapters)), model.training
