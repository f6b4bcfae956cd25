"""GREAM's second mode of inference: thoughts are sampled word by word, then an item in the trie.

Each draw of a prompt thinks for itself, until it says that it has thought or until so many tokens.
Its thoughts go through the policy token by token, beside those of the prompt's other draws; the
prompt is read once for all of them. Then the SID is drawn as any other, after prompt and thoughts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genrec_bench.decoding.beam import chunks
from genrec_bench.decoding.randomness import draw_key, prompt_keys, uniform
from genrec_bench.decoding.sampling import sample, sampling_log_probs
from genrec_bench.errors import UserError
from genrec_bench.policy.attention import KeyValueStore, Layout
from genrec_bench.policy.backbones import most_positions
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.templates import ANSWER, THOUGHT
from genrec_bench.policy.text_prompt import TextPrompt, Tokens

LOOKED_AT = 16
"""Tokens at the end of thoughts among which their end is looked for."""


@dataclass(frozen=True, eq=False)
class Reasoned:
    """What was thought and chosen for B prompts, S times each.

    Attributes:
        leaves: [B, S] leaf states.
        texts: B rows of S thoughts, without the tag that ends them.
    """

    leaves: Tensor
    texts: list[list[str]]


@torch.no_grad()
def reason(
    policy: Policy,
    prompts: Prompts,
    count: int,
    *,
    most: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    key: int | None = None,
) -> Reasoned:
    """Draw candidates, each after thoughts of its own.

    As with ``sample``, what is drawn depends on a prompt and on the key alone.

    Args:
        prompts: with their ``histories``; of a format that has a place for thoughts.
        count: S, draws for each prompt.
        most: tokens of thoughts.
        temperature: of words and of codes; see ``sampling_log_probs``, as for ``top_p``.
        key: of the random numbers; by default one is drawn from torch's generator on the CPU.

    Raises:
        UserError: a question leaves no room for thoughts.
    """
    key = draw_key() if key is None else key
    prompt_format = policy.prompt_format
    assert isinstance(prompt_format, TextPrompt), "refused before"
    asked = prompt_format.thinking_prompts(prompts.histories.cpu()).to(policy.device)
    answer, end = prompt_format.answer_tokens([ANSWER, f"\n{THOUGHT}"])
    # After the thoughts come the words that end them, and those before an item, and its codes.
    closing = len(answer) + len(end) + policy.trie.num_levels
    limits = (most_positions(policy.backbone.config) - closing - asked.lengths).clamp(max=most)
    if int(limits.min()) < 1:
        raise UserError(
            f"mode=reason: a question of {int(asked.lengths.max())} tokens leaves the backbone no "
            "room for thoughts; use one with more positions, or mode=direct"
        )
    leaves = torch.zeros(len(asked), count, dtype=torch.long, device=policy.device)
    texts = [[""] * count for _ in range(len(asked))]
    sizes = asked.lengths + count * limits
    for rows in chunks(sizes, policy.tokens_per_forward):
        some = asked.select(rows)
        thoughts = _think(policy, some, count, limits[rows], temperature, top_p, key)
        questions = [
            row[mask].cpu().numpy() for row, mask in zip(some.tokens, some.mask, strict=True)
        ]
        for draw in range(count):
            whole = []
            for place, question in enumerate(questions):
                thought = thoughts[place][draw]
                text = str(prompt_format.tokenizer.decode(thought))
                texts[int(rows[place])][draw] = text.partition(THOUGHT)[0].strip()
                ends = [] if THOUGHT in text else [end]
                whole.append(np.concatenate([question, thought, *ends, answer]))
            # Equal thoughts of two draws are followed by draws of their own.
            found = sample(
                policy,
                Prompts.from_rows(whole).to(policy.device),
                1,
                temperature=temperature,
                top_p=top_p,
                key=key + 1 + draw,
            )
            leaves[rows, draw] = found.leaves[:, 0]
    return Reasoned(leaves, texts)


def _think(
    policy: Policy,
    prompts: Prompts,
    count: int,
    limits: Tensor,
    temperature: float,
    top_p: float,
    key: int,
) -> list[list[Tokens]]:
    """Return the thoughts of B prompts, S each, of at most [B] tokens, without an end of text."""
    writer = _Writer(policy, prompts, count, int(limits.max()))
    tokenizer = policy.prompt_format.tokenizer
    stop, device = tokenizer.eos_token_id, policy.device
    may_end = torch.zeros(policy.vocabulary_size, dtype=torch.bool, device=device)
    may_end[[token for word, token in tokenizer.get_vocab().items() if THOUGHT[-1] in word]] = True
    keys, draws = prompt_keys(prompts, key), torch.arange(count, device=device)
    chances = uniform(keys.unsqueeze(1), 0, draws)
    drawn = _draw(policy, writer.hidden, chances, temperature, top_p)
    rows, columns = torch.ones_like(drawn).nonzero(as_tuple=True)
    tokens = drawn[rows, columns]
    found: list[list[list[int]]] = [[[] for _ in range(count)] for _ in range(len(prompts))]
    for step in range(1, int(limits.max()) + 1):
        goes_on = (tokens != (-1 if stop is None else stop)) & (step < limits[rows])
        checked = may_end[tokens].tolist()
        for place, (row, column, token) in enumerate(
            zip(rows.tolist(), columns.tolist(), tokens.tolist(), strict=True)
        ):
            if token == stop:
                continue
            thought = found[row][column]
            thought.append(token)
            if checked[place] and THOUGHT in str(tokenizer.decode(thought[-LOOKED_AT:])):
                goes_on[place] = False
        rows, columns, tokens = rows[goes_on], columns[goes_on], tokens[goes_on]
        if not len(rows):
            break
        hidden = writer.write(rows, columns, tokens)
        chances = uniform(keys[rows], step, draws[columns]).unsqueeze(1)
        tokens = _draw(policy, hidden, chances, temperature, top_p)[:, 0]
    return [[np.array(thought, dtype=np.int64) for thought in row] for row in found]


def _draw(
    policy: Policy, hidden: Tensor, chances: Tensor, temperature: float, top_p: float
) -> Tensor:
    """Return [R, n] tokens that follow hidden states [R, D], by numbers [R, n] in [0, 1)."""
    known = policy.prompt_format.vocabulary_size

    def read(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        # Rows of the head beyond the tokenizer's words say nothing.
        shares = sampling_log_probs(logits[:, :known], temperature, 0, top_p).exp()
        cumulated = shares.cumsum(dim=-1)
        at = chances[rows] * cumulated[:, -1:]
        tokens = torch.searchsorted(cumulated, at, right=True).clamp(max=known - 1)
        return tokens, tokens

    return policy.read_words(hidden, read)[0]


class _Writer:
    """Adds tokens to S texts that follow each of B prompts; ``hidden`` [B, D] are the prompts'."""

    def __init__(self, policy: Policy, prompts: Prompts, count: int, most: int) -> None:
        """Read the prompts; at most so many tokens of each text will follow."""
        num_prompts, self._width = prompts.mask.shape
        self._policy, self._count, self._step = policy, count, 0
        self._lengths, device = prompts.lengths, prompts.mask.device
        self._store = KeyValueStore(num_prompts, self._width + count * most)
        place = torch.arange(self._width, device=device)
        # Tokens are laid out from the left whatever side the padding was on.
        self._keys = place < self._lengths.unsqueeze(1)
        rows, positions = self._keys.nonzero(as_tuple=True)
        layout = Layout(
            slots=rows * self._width + positions,
            grid=(num_prompts, self._width),
            mask=(place <= place.unsqueeze(1)).expand(num_prompts, -1, -1),
            pairs=int((self._lengths**2).sum()),
            store=self._store,
            store_slots=rows * self._store.capacity + positions,
        )
        hidden = policy.hidden(prompts.tokens[prompts.mask], positions, layout, num_prompts)
        self.hidden = hidden[self._lengths.cumsum(dim=0) - 1]

    def write(self, rows: Tensor, columns: Tensor, tokens: Tensor) -> Tensor:
        """Add a token [R] to some texts, by prompts and numbers [R]; return [R, D] hidden states.

        A text that is left out once is left out for good.
        """
        num_prompts, count, step = len(self._lengths), self._count, self._step
        # The k-th tokens of a prompt's texts lie side by side, whether or not there are all.
        own = torch.eye(count, dtype=torch.bool, device=rows.device).repeat(1, step + 1)
        mask = torch.cat(
            [
                self._keys.unsqueeze(1).expand(-1, count, -1),
                own.unsqueeze(0).expand(num_prompts, -1, -1),
            ],
            dim=-1,
        )
        layout = Layout(
            slots=rows * count + columns,
            grid=(num_prompts, count),
            mask=mask,
            pairs=int((self._lengths[rows] + step + 1).sum()),
            store=self._store,
            store_slots=rows * self._store.capacity + self._width + step * count + columns,
        )
        self._step += 1
        return self._policy.hidden(tokens, self._lengths[rows] + step, layout, len(rows))
