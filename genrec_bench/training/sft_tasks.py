"""The tasks that SFT teaches beside next-item: which, how often, what is asked and answered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import UserError, nearest
from genrec_bench.policy.templates import NEXT_ITEM, TASKS, THINKING, WordTask
from genrec_bench.policy.text_prompt import TextPrompt
from genrec_bench.storage.digests import json_digest
from genrec_bench.training.traces import load_traces

TITLE_WORDS, DESCRIPTION_WORDS = 32, 128
"""Of a text no more words are used: some sellers write pages."""

MOST_WEIGHT = 100.0
"""Of a task beside next-item; more is a slip."""


class WordSettings(Protocol):
    """What is done with words; these are some of the harness's `Settings`."""

    @property
    def prompt(self) -> str:
        """Auto, compact, or the name of a template."""

    @property
    def sft_tasks(self) -> str:
        """See `task_weights`."""

    @property
    def mode(self) -> str:
        """How samples are drawn: direct or reason."""

    @property
    def sft_traces(self) -> str:
        """A file of traces; "" for none."""

    @property
    def sft_code_tokens(self) -> str:
        """What new code tokens start from: backbone or titles."""


def task_weights(text: str) -> dict[str, float]:
    """Read ``sft_tasks``: names with weights such as ``next-item,title-sid:0.5``.

    Returns:
        The weight of each task beside next-item: how many of its questions stand in an epoch for
        one sequence of next-item. They are in the order of `TASKS`.

    Raises:
        UserError: on a name that is no task, a weight that is none, or a mixture without next-item.
    """
    given: dict[str, float] = {}
    for word in text.split(","):
        name, _, number = (part.strip() for part in word.partition(":"))
        if name != NEXT_ITEM and name not in TASKS:
            names = [NEXT_ITEM, *TASKS]
            raise UserError(
                f"sft_tasks={text}: {name or 'an empty word'} is no task; there are "
                f"{', '.join(names)}{nearest(name, names)}"
            )
        if name in given:
            raise UserError(f"sft_tasks={text}: {name} is given twice")
        try:
            given[name] = float(number or 1)
        except ValueError:
            given[name] = math.nan
        if not 0 < given[name] <= MOST_WEIGHT:
            raise UserError(
                f"sft_tasks={text}: the weight of {name} must be a number above 0, at most "
                f"{MOST_WEIGHT:g}, such as {name}:0.5"
            )
    if NEXT_ITEM not in given:
        raise UserError(f"sft_tasks={text}: {NEXT_ITEM} must be among them, which policies are for")
    whole = given.pop(NEXT_ITEM)
    return {name: given[name] / whole for name in TASKS if name in given}


def visits_of_epoch(sequences: int, weights: Mapping[str, float]) -> list[int]:
    """Return how many sequences an epoch has of next-item, which has so many, and of each task."""
    return [max(1, round(weight * sequences)) for weight in (1.0, *weights.values())]


def written_tasks(weights: dict[str, float]) -> str:
    """Write a mixture in the one way that equal mixtures share."""
    return ",".join([NEXT_ITEM, *(f"{name}:{weight:g}" for name, weight in weights.items())])


def check_words(dataset: Dataset, backbone: str, settings: WordSettings) -> None:
    """Make sure that a dataset and a prompt format have the words that SFT is to teach.

    Args:
        backbone: as given.

    Raises:
        UserError: naming the setting and what is missing.
    """
    weights, prompt = task_weights(settings.sft_tasks), settings.prompt
    # What asks for words, and which.
    asked = {
        f"sft_tasks={settings.sft_tasks}: {name}": "descriptions"
        if TASKS[name].reads_descriptions
        else "titles"
        for name in weights
    }
    if settings.sft_code_tokens == "titles":
        asked["sft_code_tokens=titles:"] = "titles"
    if asked and (prompt == "compact" or (prompt == "auto" and backbone == "tiny")):
        raise UserError(
            f"{next(iter(asked))} needs words, and prompts of codes alone have none; take a "
            "--backbone with a tokenizer and prompt=text"
        )
    thinks = {"sft_traces": settings.sft_traces, "mode": settings.mode}
    for name, value in thinks.items():
        if value not in ("", "direct") and prompt not in THINKING:
            raise UserError(
                f"{name}={value}: thoughts have a place in prompt={' and '.join(THINKING)} alone; "
                "set it, with a --backbone that has a tokenizer"
            )
    if settings.sft_traces:
        load_traces(settings.sft_traces, dataset)
    there = {
        "descriptions": any(text.strip() for text in dataset.contents.descriptions),
        "titles": any(title.strip() for title in dataset.catalog.titles),
    }
    for what, needed in asked.items():
        if not there[needed]:
            raise UserError(f"{what} needs {needed} of items, and dataset {dataset.name} has none")
    for name in weights:
        if not len(rows_of(TASKS[name], dataset)):
            raise UserError(
                f"sft_tasks={settings.sft_tasks}: {name} needs users of items with titles, and the "
                f"training split of dataset {dataset.name} has none"
            )


def tasks_digest(text: str, dataset: Dataset) -> str:
    """Return a hash of all that a mixture says besides titles and codes; "" for next-item alone."""
    weights = task_weights(text)
    if not weights:
        return ""
    tasks = {name: dataclasses.asdict(TASKS[name]) for name in weights}
    reads = any(TASKS[name].reads_descriptions for name in weights)
    return json_digest([tasks, dataset.contents.descriptions_sha256 if reads else ""])


def rows_of(task: WordTask, dataset: Dataset) -> NDArray[np.int64]:
    """Return what a task can be asked about: items, or training examples, by their index."""
    titled = np.array([bool(title.strip()) for title in dataset.catalog.titles])
    if not task.of_users:
        there = titled
        if task.reads_descriptions:
            texts = dataset.contents.descriptions
            there = np.array([bool(text.strip()) for text in texts])
        return there.nonzero()[0]
    examples = dataset.train
    if task.answers_in_words:
        return titled[examples.targets].nonzero()[0]
    before = np.concatenate([[0], np.cumsum(titled[examples.history_items])])
    offsets = examples.history_offsets
    return (before[offsets[1:]] > before[offsets[:-1]]).nonzero()[0]


class QuestionSource(Protocol):
    """Questions of one kind, and their answers."""

    @property
    def setting(self) -> str:
        """The setting that asks for them."""

    @property
    def answers_in_words(self) -> bool:
        """Whether an answer has to be ended, as one of codes is by their number."""

    def __len__(self) -> int:
        """Return how many there are."""

    def write(self, number: int, shortened: int = 0) -> tuple[str, Sequence[str]]:
        """Return a question and the parts of its answer.

        Args:
            number: which one.
            shortened: how often to halve what makes the question long.
        """


@dataclass(frozen=True, eq=False)
class Questions:
    """A task's questions about a dataset.

    Attributes:
        rows: [n] what each is about, see `rows_of`.
    """

    task: WordTask
    dataset: Dataset
    prompt_format: TextPrompt
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, name: str, dataset: Dataset, prompt_format: TextPrompt) -> Questions:
        """Return all questions of a task."""
        task = TASKS[name]
        return cls(task, dataset, prompt_format, rows_of(task, dataset))

    def __len__(self) -> int:
        """Return n."""
        return len(self.rows)

    @property
    def setting(self) -> str:
        """The setting of tasks."""
        return "sft_tasks"

    @property
    def answers_in_words(self) -> bool:
        """As the task's."""
        return self.task.answers_in_words

    def write(self, number: int, shortened: int = 0) -> tuple[str, Sequence[str]]:
        """Return a question and its answer, in one part.

        Args:
            number: which one.
            shortened: how often to halve what makes it long: the older part of a history, the end
                of a description.
        """
        row, catalog = int(self.rows[number]), self.dataset.catalog
        item, history = row, np.empty(0, dtype=np.int32)
        if self.task.of_users:
            item, history = int(self.dataset.train.targets[row]), self.dataset.train.history(row)
            history = history[-max(1, len(history) >> shortened) :]
        description = ""
        if self.task.reads_descriptions:
            most = DESCRIPTION_WORDS >> shortened
            description = _first_words(self.dataset.contents.descriptions[item], max(1, most))
        titles = [_first_words(catalog.titles[one], TITLE_WORDS) for one in (*history, item)]
        told = [title for title in titles[:-1] if title]
        fields = {
            "sid": self.prompt_format.item_text[item],
            "title": titles[-1],
            "description": description,
            "history": self.prompt_format.spell(history),
            "titles": "; ".join(told),
        }
        question = self.task.question.format(**fields)
        return self.prompt_format.template.ask(question), (self.task.answer.format(**fields),)


def _first_words(text: str, most: int) -> str:
    """Return the beginning of a text on one line."""
    return " ".join(text.split()[:most])
