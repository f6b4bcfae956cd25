"""Several targets of a user in one pass, for prompts in words: a history is read once for all.

A prompt in words closes after its history, so that a longer one does not begin with a shorter one.
But all of a user's begin alike. So a sequence is a trunk, the longest prompt without its closing
words, and a branch for each target, which leaves the trunk where the target's history ends: the
closing words, and the target's codes. A branch sees the trunk up to there and itself, and has the
places that it would have in a prompt of its own; so predictions are those of a pass for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec_bench.data.dataset import Examples
from genrec_bench.policy.attention import Layout
from genrec_bench.policy.prompts import Chains
from genrec_bench.policy.text_prompt import TextPrompt, Tokens


@dataclass(frozen=True, eq=False)
class Packed:
    """Training sequences as one forward pass takes them.

    Attributes:
        tokens: [R] of all sequences, without padding.
        positions: [R] their places.
        layout: what each of them sees.
        predicts: [R] which of them predict a code of a target, target by target.
    """

    tokens: Tensor
    positions: Tensor
    layout: Layout
    predicts: Tensor


def pack_shared(
    prompt_format: TextPrompt,
    examples: Examples,
    chains: Chains,
    rows: NDArray[np.int64],
    device: torch.device,
) -> Packed:
    """Lay out some chains, by their rows [C]; tokens are those of `TextPrompt.pieces`."""
    num_levels = prompt_format.item_tokens.shape[1]
    sequences = []
    for row in rows:
        last, count = int(chains.last[row]), int(chains.num_targets[row])
        items = np.append(examples.history(last), examples.targets[last])
        sequences.append(torch.from_numpy(_sequence(prompt_format, items, count)))
    tokens, positions, seen, stems = torch.cat(sequences, dim=1).to(device)
    lengths = torch.tensor([sequence.shape[1] for sequence in sequences])
    width = int(lengths.max())
    place = torch.arange(width, device=device)
    is_real = place < lengths.to(device).unsqueeze(1)

    def grid(values: Tensor, fill: int) -> Tensor:
        found = torch.full(is_real.shape, fill, device=device)
        found[is_real] = values
        return found

    of_trunk, stem_of = grid(seen, 1), grid(stems, -1)
    on_trunk = (stem_of < 0) & is_real
    # The trunk up to where a branch leaves it, or up to here; and of a branch what came before.
    mask = on_trunk.unsqueeze(1) & (place < of_trunk.unsqueeze(2))
    same = (stem_of.unsqueeze(1) == stem_of.unsqueeze(2)) & (stem_of >= 0).unsqueeze(2)
    mask |= same & (place <= place.unsqueeze(1))
    mask[..., 0] |= ~is_real  # Padding has to see something.
    return Packed(
        tokens,
        positions,
        Layout(
            slots=is_real.flatten().nonzero()[:, 0],
            grid=(len(rows), width),
            mask=mask,
            pairs=int(mask[is_real].sum()),
        ),
        # Of a branch the last L tokens predict: its last word, and all codes but one.
        (stems >= 0) & (positions - seen >= _branch(prompt_format) - num_levels),
    )


def _branch(prompt_format: TextPrompt) -> int:
    """Return how many tokens a branch has: the closing words, and all codes but the last."""
    return len(_pieces(prompt_format)[2]) + int(prompt_format.item_tokens.shape[1]) - 1


def _pieces(prompt_format: TextPrompt) -> tuple[Tokens, Tokens, Tokens]:
    pieces = prompt_format.pieces
    assert pieces is not None, "refused where chains are made"
    return pieces


def _sequence(prompt_format: TextPrompt, items: NDArray[np.int32], count: int) -> Tokens:
    """Return [4, R] of a user's items, of which the last ones are targets.

    The rows are tokens, places, how much of the trunk each sees, and the branch that each is of, -1
    for the trunk.
    """
    head, between, tail = _pieces(prompt_format)
    codes, branch = prompt_format.item_tokens, _branch(prompt_format)
    step = codes.shape[1] + len(between)
    words = [head]
    for number, item in enumerate(items[:-1]):
        words += [between, codes[item]] if number else [codes[item]]
    trunk = np.concatenate(words)
    place = np.arange(len(trunk))
    parts = [np.stack([trunk, place, place + 1, np.full_like(place, -1)])]
    for number in range(len(items) - count, len(items)):
        # Where a history of so many items ends: nothing follows its last one.
        stem = len(head) + max(0, number * step - len(between))
        own = np.append(tail, codes[items[number]][:-1])
        place = stem + np.arange(branch)
        parts.append(np.stack([own, place, np.full_like(place, stem), np.full_like(place, number)]))
    return np.concatenate(parts, axis=1)
