"""The steps of SFT on a mixture of tasks: next-item, and questions in words beside it.

An epoch visits every sequence of next-item once, and of each other task as many questions as its
weight says; all are shuffled together. A task with fewer questions repeats them, each as often as
the others; one with more goes on where it was in the next epoch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset
from genrec_bench.decoding.beam import chunks
from genrec_bench.errors import UserError
from genrec_bench.policy.answers import Tokens, score_answers
from genrec_bench.policy.backbones import most_positions
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.text_prompt import TextPrompt
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.rollouts import Sampler
from genrec_bench.training.sft_tasks import Questions, QuestionSource, visits_of_epoch
from genrec_bench.training.supervised_steps import SupervisedStepper
from genrec_bench.training.workers import Workers

MOST_HALVINGS = 12
"""Of a question that is longer than the backbone reads."""


class Mixture:
    """Which sequences are visited when, of several tasks; they are numbered task by task."""

    def __init__(self, counts: list[int], an_epoch: list[int], batch: int, seed: int) -> None:
        """Mix tasks with so many sequences each, of which so many are visited in an epoch."""
        self._first = np.concatenate([[0], np.cumsum(counts)])
        self._an_epoch = an_epoch
        self._slots = np.concatenate([[0], np.cumsum(an_epoch)])
        self._all = Sampler(int(self._slots[-1]), batch, seed)
        self._each = [Sampler(count, 1, seed) for count in counts]

    def __len__(self) -> int:
        """Return how many sequences an epoch has."""
        return int(self._slots[-1])

    def rows(self, index: int, part: float = 1.0) -> NDArray[np.int64]:
        """Return the sequences of step ``index``; asking in any order gives the same."""
        start, number = index * self._all.batch, self._all.size(part)
        epochs = np.arange(start, start + number) // len(self)
        return self._of_slots(epochs, self._all.visits(start, number))

    def evenly(self, count: int) -> NDArray[np.int64]:
        """Return some sequences of the first epoch, of each task its share."""
        slots = np.linspace(0, len(self) - 1, count).astype(np.int64)
        return self._of_slots(np.zeros_like(slots), slots)

    def _of_slots(self, epochs: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what stands at places of epochs that begin with all of the first task."""
        tasks = np.searchsorted(self._slots, slots, side="right") - 1
        found = np.empty_like(slots)
        for task in np.unique(tasks).tolist():
            here = tasks == task
            visits = epochs[here] * self._an_epoch[task] + slots[here] - self._slots[task]
            found[here] = self._first[task] + self._each[task].at(visits)
        return found


class TaskStepper(SupervisedStepper):
    """Learns next-item and other tasks; the loss is SFT's, and each token of an answer counts."""

    def __init__(
        self,
        policy: Policy,
        dataset: Dataset,
        weights: Mapping[str, float],
        optimization: Optimization,
        ledger: Ledger,
        workers: Workers,
        *,
        batch: int,
        seed: int,
        phase: str,
        targets: int = 1,
    ) -> None:
        """Prepare; ``weights`` are those of the tasks beside next-item, by name."""
        super().__init__(
            policy,
            dataset.train,
            optimization,
            ledger,
            workers,
            batch=batch,
            seed=seed,
            phase=phase,
            targets=targets,
        )
        prompt_format = policy.prompt_format
        assert isinstance(prompt_format, TextPrompt), "refused before"
        self._format = prompt_format
        self._most = most_positions(policy.backbone.config)
        end = prompt_format.tokenizer.eos_token_id
        self._end = np.array([] if end is None else [end], dtype=np.int64)
        self._questions: list[QuestionSource] = []
        # Sequences are numbered, those of next-item first; here is where the next kind begins.
        self._first = np.array([len(self._chains)])
        for name in weights:
            self._add(Questions.of(name, dataset, prompt_format))
        counts = [len(self._chains), *map(len, self._questions)]
        self._mixture = Mixture(counts, visits_of_epoch(counts[0], weights), batch, seed)

    def _add(self, asked: QuestionSource) -> None:
        """Give questions the numbers that follow those there are."""
        self._questions.append(asked)
        self._first = np.append(self._first, self._first[-1] + len(asked))

    def __len__(self) -> int:
        """Return the number of training sequences of an epoch."""
        return len(self._mixture)

    def _rows(self, index: int, part: float) -> NDArray[np.int64]:
        return self._mixture.rows(index, part)

    def _evenly(self, count: int) -> NDArray[np.int64]:
        return self._mixture.evenly(count)

    def _count(self, rows: NDArray[np.int64]) -> float:
        """Return by what a batch's loss is divided: its tokens, counted as targets of L codes."""
        next_item, others = self._parted(rows)
        tokens = sum(len(answer) for _, answer in others)
        return super()._count(next_item) + tokens / self._policy.trie.num_levels

    def _learn(self, rows: NDArray[np.int64], count: float) -> float:
        next_item, others = self._parted(rows)
        total = super()._learn(next_item, count) if len(next_item) else 0.0
        self._policy.train()
        sizes = torch.tensor([len(question) + len(answer) for question, answer in others])
        for some in chunks(sizes, self._policy.tokens_per_forward):
            questions, answers = zip(*(others[place] for place in some.tolist()), strict=True)
            loss = -score_answers(self._policy, questions, answers).sum() / count
            loss.backward()
            total += float(loss.detach())
        return total

    def _parted(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[tuple[Tokens, Tokens]]]:
        """Return the sequences of next-item, and the questions and answers of other tasks."""
        found = rows[rows < self._first[0]]
        asked = []
        for row in rows[rows >= self._first[0]]:
            task = int(np.searchsorted(self._first, row, side="right"))
            asked.append((self._questions[task - 1], int(row - self._first[task - 1])))
        return found, self._tokens(asked)

    def _tokens(self, asked: list[tuple[QuestionSource, int]]) -> list[tuple[Tokens, Tokens]]:
        """Tokenize questions, shortened as far as the backbone has too few places for them."""
        found: dict[int, tuple[Tokens, Tokens]] = {}
        left = list(range(len(asked)))
        for shortened in range(MOST_HALVINGS):
            if not left:
                break
            texts = [asked[place][0].write(asked[place][1], shortened) for place in left]
            questions = self._format.question_tokens([question for question, _ in texts])
            # What is generated part by part is cut into tokens part by part.
            answers = [np.concatenate(self._format.answer_tokens(parts)) for _, parts in texts]
            for place, question, answer in zip(left, questions, answers, strict=True):
                # Codes end by their number, words have to be ended.
                ends = asked[place][0].answers_in_words
                found[place] = question, np.append(answer, self._end) if ends else answer
            left = [place for place in left if sum(map(len, found[place])) - 1 > self._most]
        if left:
            raise UserError(
                f"{asked[left[0]][0].setting}: the backbone reads {self._most} tokens, and a "
                f"question with its answer takes more: {texts[0][0][:80]!r}"
            )
        return [found[place] for place in range(len(asked))]
