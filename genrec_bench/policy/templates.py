"""All that is said to a language model in words: what it is asked, and how it answers.

Two templates, each with the structure of its paper: ``text`` is UGR's (appendix C), a question and
a place for the answer, and ``gream`` is GREAM's (appendix C), in which a system, a user and an
assistant speak, and the assistant may think before it answers. The tasks of alignment are those of
LC-Rec, MiniOneRec and GREAM (section 4.1), and stand in the frame of whichever template is used.
Their wording is ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """How questions are put.

    Attributes:
        name: of the prompt format that speaks so.
        next_item: asks what follows a ``{history}`` of SIDs.
        frame: what stands around a ``{question}`` that is answered at once.
        thinking_frame: around one that is answered after thoughts; "" where there are none.
    """

    name: str
    next_item: str
    frame: str
    thinking_frame: str = ""

    def ask(self, question: str) -> str:
        """Return a question in its frame; the answer follows at once."""
        return self.frame.format(question=question)

    def ask_to_think(self, question: str) -> str:
        """Return a question in the frame for thoughts; they, and the answer, follow."""
        return self.thinking_frame.format(question=question)


UGR = Template(
    name="text",
    next_item=(
        "The user has interacted with items {history} in chronological order. "
        "Can you predict the next possible item that the user may expect?"
    ),
    frame="{question}\n\nResponse:\n",
)

GREAM = Template(
    name="gream",
    next_item="A user chose these items, oldest first: {history}. Which item will it be next?",
    frame=(
        "System: You recommend items to users. Give the answer, and nothing besides.\n"
        "User: {question}\n"
        "Assistant:\n"
    ),
    thinking_frame=(
        "System: You recommend items to users. Before the answer, think between <think> and "
        "</think>, step by step.\n"
        "1. Evidence: what the chosen items have in common, and how choices changed.\n"
        "2. Preferences: what kind of items the user likes, and why.\n"
        "3. Intent: what the user is likely to want now.\n"
        "4. What matters: the items of the history that tell of it.\n"
        "Then give the item between <answer> and </answer>.\n"
        "User: {question}\n"
        "Assistant:\n"
    ),
)

TEMPLATES = {template.name: template for template in (UGR, GREAM)}
"""By the name of their prompt format."""

THINKING = tuple(name for name, template in TEMPLATES.items() if template.thinking_frame)
"""The names of those with a place for thoughts."""

THINK, THOUGHT, ANSWER = "<think>\n", "</think>", "\n<answer>"
"""Before thoughts, at their end, and between that and the answer."""


@dataclass(frozen=True)
class WordTask:
    """A question about an item, or about the next one of a user, and its answer.

    Fields: ``{sid}``, ``{title}`` and ``{description}`` are of the item; ``{history}`` and
    ``{titles}`` are SIDs and titles of what the user had before.
    """

    question: str
    answer: str

    @property
    def of_users(self) -> bool:
        """Whether it is asked about a user's next item, and not about an item alone."""
        return "{history}" in self.question or "{titles}" in self.question

    @property
    def answers_in_words(self) -> bool:
        """Whether the answer is no SID."""
        return "{title}" in self.answer

    @property
    def reads_descriptions(self) -> bool:
        """Whether items without a description cannot be asked about."""
        return "{description}" in self.question


NEXT_ITEM = "next-item"
"""The task that policies are for: a history of SIDs, and the SID of the next item."""

TASKS = {
    "title-sid": WordTask("Which item has the title {title}?", "{sid}"),
    "sid-title": WordTask("Which title has the item {sid}?", "{title}"),
    "description-sid": WordTask("Which item is described by these words? {description}", "{sid}"),
    "titles-sid": WordTask(
        "A user chose items with these titles, oldest first: {titles}. Which item will it be next?",
        "{sid}",
    ),
    "history-title": WordTask(
        "A user chose these items, oldest first: {history}. Which title has the next one?",
        "{title}",
    ),
}
"""What SFT may teach beside `NEXT_ITEM`, by name."""
