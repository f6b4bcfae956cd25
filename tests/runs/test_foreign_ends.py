"""What an algorithm raises to end the program while it trains ends its run, and in one line."""

from pathlib import Path

import pytest
from tiny_runs import call, last_error, run_folders, run_words, save_tiny, shrink_backbone

from genrec_bench.errors import UserError
from genrec_bench.runs.records import read_record
from genrec_bench.storage.python_files import foreign_ends, load_python

Capture = pytest.CaptureFixture[str]

ENDS = '''"""GRPO that ends all."""

import asyncio

import torch

from genrec_bench.algorithms.grpo import GRPO


class Own(BaseException):
    """Of one's own."""


def end():
    """End."""
    raise WHAT


class Head(torch.nn.Linear):
    """A module that ends."""

    def forward(self, states):
        """End."""
        end()


class Backward(torch.autograd.Function):
    """A function that ends on its way back."""

    @staticmethod
    def forward(context, value):
        """Do nothing."""
        return value * 1

    @staticmethod
    def backward(context, gradient):
        """End."""
        end()


class Ends(GRPO):
    """Ends when it is asked for something."""

    METHOD
'''

METHODS = {
    "rewards": "def reward(self, seen): end()",
    "credits": "def advantage(self, seen, rewards): end()",
    "rolls out": "def rollout(self, policy, prompts, group_size): end()",
    "begins": "def begin_step(self, step, share): end()",
    "says whether": "rolls_out = property(lambda self: end())",
    "goes through a head": """def heads(self, hidden_size, embedding_size, trie):
        return {'own': Head(hidden_size, 1)}

    def rollout(self, policy, prompts, group_size):
        policy.heads['own'](torch.ones(1))""",
    "goes back": """def loss(self, batch, scores):
        losses, figures = super().loss(batch, scores)
        return Backward.apply(losses), figures""",
}
RAISED = {
    "Own('no\\nmore')": "Own: no more",
    "GeneratorExit": "GeneratorExit: ",
    "asyncio.CancelledError('x')": "CancelledError: x",
    "SystemExit(0)": "SystemExit: 0",
}
# Each place with one of one's own, and each that Python has in one place.
CASES = [(where, next(iter(RAISED))) for where in METHODS]
CASES += [("rewards", raised) for raised in list(RAISED)[1:]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shrink_backbone(monkeypatch)


def written(where: str, raised: str) -> None:
    text = ENDS.replace("METHOD", METHODS[where]).replace("WHAT", raised)
    Path("ends.py").write_text(text)


@pytest.mark.parametrize(("where", "raised"), CASES)
def test_what_ends_the_program_ends_the_run_in_one_line(
    capsys: Capture, data: Path, where: str, raised: str
) -> None:
    written(where, raised)
    said = last_error(call(capsys, run_words("./ends.py", data, Path("out"))))
    assert said.startswith(f"ends.py line 16: {RAISED[raised]}")
    (folder,) = run_folders(Path("out"))
    record = read_record(folder)
    assert not record["complete"] and record["failure"].strip() == said.strip()


def test_an_interrupt_within_an_algorithm_is_the_users_own(capsys: Capture, data: Path) -> None:
    written("rewards", "KeyboardInterrupt")
    called = call(capsys, run_words("./ends.py", data, Path("out")))
    assert called.code == 130 and called.err.endswith("the same command again goes on\n")
    (folder,) = run_folders(Path("out"))
    assert not (folder / "record.json").exists()


def test_what_others_raise_to_end_the_program_passes(tmp_path: Path) -> None:
    class Ours(BaseException):
        pass

    with pytest.raises(Ours), foreign_ends():
        raise Ours
    (tmp_path / "mine.py").write_text("def end(what):\n    raise what\n")
    end = load_python(tmp_path / "mine.py").end
    with pytest.raises(UserError, match=r"^mine.py line 2: Ours: x$"), foreign_ends():
        end(Ours("x"))
    for passing in (ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(passing)), foreign_ends():
            end(passing)
