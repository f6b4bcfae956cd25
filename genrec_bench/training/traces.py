"""Traces of thought that people hand in: what to think before an example's answer, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import UserError
from genrec_bench.policy.templates import ANSWER, THOUGHT
from genrec_bench.policy.text_prompt import TextPrompt
from genrec_bench.storage.digests import content_digest
from genrec_bench.storage.text_files import json_lines, read_text

MOST_CHARACTERS = 20_000
"""Of a trace; GREAM's have some thousand."""

EXAMPLE, TEXT = "example", "text"

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Traces:
    """The traces of a file.

    Attributes:
        sha256: of the file.
        examples: [n] of the training split, by their index; one may have several traces.
        texts: [n] what stands between the tags of thoughts.
    """

    sha256: str
    examples: NDArray[np.int64]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        """Return n."""
        return len(self.texts)


def traces_digest(file: str) -> str:
    """Return the hash of a file of traces, by which records know it.

    Raises:
        UserError: there is no such file.
    """
    return content_digest(_read(file))


def _read(file: str) -> str:
    if _DIGEST.fullmatch(file) and not Path(file).is_file():
        raise UserError(
            f"sft_traces={file}: a record knows traces by their hash; name the file that has them"
        )
    return read_text(Path(file), f"sft_traces={file}")


def load_traces(file: str, dataset: Dataset) -> Traces:
    """Read JSON lines with the fields `EXAMPLE`, a row of the training split, and `TEXT`.

    Raises:
        UserError: the file cannot be read, holds no trace, or a line is none; the message names it.
    """
    where, content = f"sft_traces={file}", _read(file)
    entries = json_lines(content, where)
    if not entries:
        raise UserError(f"{where}: holds no trace")
    count = len(dataset.train)
    for number, entry in enumerate(entries, start=1):
        if wrong := _wrong(entry, count):
            raise UserError(f"{where}, trace {number}: {wrong}")
    examples = np.array([entry[EXAMPLE] for entry in entries], dtype=np.int64)
    texts = tuple(entry[TEXT].strip() for entry in entries)
    return Traces(content_digest(content), examples, texts)


def _wrong(entry: dict[str, Any], count: int) -> str:
    """Return what is wrong with an entry, and what would be right; nothing if it is a trace."""
    if missing := [name for name in (EXAMPLE, TEXT) if name not in entry]:
        return f"lacks {missing[0]!r}; a trace has {EXAMPLE!r} and {TEXT!r}"
    example, text = entry[EXAMPLE], entry[TEXT]
    if isinstance(example, bool) or not isinstance(example, int) or not 0 <= example < count:
        return f"{EXAMPLE} must be a row of the training split, 0 to {count - 1}"
    if not isinstance(text, str) or not text.strip():
        return f"{TEXT} must be words"
    if len(text) > MOST_CHARACTERS:
        return f"{TEXT} has more than {MOST_CHARACTERS:,} characters"
    if THOUGHT in text:
        return f"{TEXT} holds {THOUGHT}, which is put behind it and ends it"
    return ""


@dataclass(frozen=True, eq=False)
class ThoughtQuestions:
    """Next-item with thoughts before the answer; as tasks are."""

    traces: Traces
    dataset: Dataset
    prompt_format: TextPrompt
    setting: str = "sft_traces"
    answers_in_words: bool = False

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.traces)

    def write(self, number: int, shortened: int = 0) -> tuple[str, Sequence[str]]:
        """Return a question, and the parts of its answer: thoughts, and an item.

        Args:
            number: which trace.
            shortened: how often to halve the history; thoughts are never cut.
        """
        example, prompt_format = int(self.traces.examples[number]), self.prompt_format
        history = self.dataset.train.history(example)
        question = prompt_format.thinking_text(history[-max(1, len(history) >> shortened) :])
        sid = prompt_format.item_text[self.dataset.train.targets[example]]
        return question, (f"{self.traces.texts[number]}\n{THOUGHT}", ANSWER + sid)
