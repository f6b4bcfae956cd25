"""What the policy says of answers in words and codes after their questions, in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec_bench.policy.attention import Layout
from genrec_bench.policy.policy import Policy

Tokens = NDArray[np.int64]


def score_answers(policy: Policy, questions: Sequence[Tokens], answers: Sequence[Tokens]) -> Tensor:
    """Score answers as language models do: over the whole vocabulary, whatever ``logprob_space``.

    Args:
        questions: n rows of tokens, none of them empty.
        answers: n rows of tokens that follow them, none of them empty.

    Returns:
        [A] the log-probability of each token of the answers, one answer after the other.
    """
    device = policy.device
    asked = torch.tensor([len(row) for row in questions], device=device)
    sizes = torch.tensor([len(row) for row in answers], device=device)
    # The last token of an answer predicts nothing.
    lengths = asked + sizes - 1
    rows = [np.append(q, a[:-1]) for q, a in zip(questions, answers, strict=True)]
    tokens = torch.from_numpy(np.concatenate(rows)).to(device)
    wanted = torch.from_numpy(np.concatenate(answers)).to(device)
    place = torch.arange(int(lengths.max()), device=device)
    is_real = place < lengths.unsqueeze(1)
    predicts = is_real & (place >= asked.unsqueeze(1) - 1)
    layout = Layout(
        slots=is_real.flatten().nonzero()[:, 0],
        grid=(len(rows), len(place)),
        mask=(place <= place.unsqueeze(1)).expand(len(rows), -1, -1),
        pairs=int((lengths**2).sum()),
    )
    positions = place.expand(is_real.shape)[is_real]
    hidden = policy.hidden(tokens, positions, layout, head_rows=len(wanted))
    return policy.token_log_probs(hidden[predicts[is_real]], wanted)
