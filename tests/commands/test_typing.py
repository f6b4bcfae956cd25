"""What people type: suggestions for mistyped words, completion in a shell, and other systems."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import call, only_error

from genrec_bench.commands.cli import COMMANDS

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("somewhere")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("rum ugr", "run"),
        ("comapre", "compare"),
        ("data prepre office", "prepare"),
        ("sids biuld office", "build"),
        ("--vesion", "--version"),
        ("run ugr --bugdet 9s", "--budget"),
        ("run ugr --dataste=office", "--dataset"),
        ("compare --seads 3", "--seeds"),
        ("data show synthetic --jsno", "--json"),
        ("analyze dynamics --alpas 0,1", "--alphas"),
        ("compare --sampler tqe", "tpe"),
        ("compare --suite claim", "claims"),
        ("leaderboard sythetic", "synthetic"),
        ("leaderboard verfy", "verify"),
        ("run ugr --dataset sythetic", "synthetic"),
        ("data show industrail", "industrial"),
        ("run ugrr", "ugr"),
        ("run ugr --set promt=text", "prompt"),
        ("run ugr --set prompt=txt", "text"),
        ("run ugr --set alpha_mn=0", "alpha_min"),
        ("compare --controls sft,grpp", "grpo"),
        ("compare --controls grpo:reward=randon", "random"),
        ("ablate vstr", "vstar"),
        ("analyze dynamcs", "dynamics"),
    ],
)
def test_what_was_meant_is_suggested(capsys: Capture, typed: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in only_error(call(capsys, typed.split()))


@pytest.mark.parametrize(
    "typed",
    [
        "zzzz",
        "run ugr --zzzz",
        "sweep ugr --plan",  # an option of others, and like --json in its dashes alone
        "run ugr --cpus 2",
        "leaderboard zzzz",
        "compare --json=1",
    ],
)
def test_nothing_is_suggested_where_nothing_is_near(capsys: Capture, typed: str) -> None:
    assert "did you mean" not in only_error(call(capsys, typed.split()))


@pytest.mark.parametrize(
    "typed", ["run ugr --set seed=1", "run ugr --set budget=9s", "sweep ugr --set data_dir=x"]
)
def test_what_is_an_option_is_no_setting(capsys: Capture, typed: str) -> None:
    name = typed.rpartition(" ")[2].partition("=")[0].replace("_", "-")
    spent = ["--total-budget", "2h", "--trial-budget", "1h"] if "sweep" in typed else []
    error = only_error(call(capsys, [*typed.split(), *spent]))
    assert f"it is an option: --{name}" in error and "did you mean" not in error


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("run ugr --seed 1 --seed 2", "--seed: given twice, as 1 and as 2"),
        ("recommend R --history 1,2 --history 3", "--history: given twice, as 1,2 and as 3"),
        ("compare --budget 1h --budget=2h", "--budget: given twice, as 1h and as 2h"),
        ("data import lcrec D --as a --as b", "--as: given twice, as a and as b"),
        ("analyze dynamics --alphas 0 --alphas 1", "--alphas: given twice"),
    ],
)
def test_an_option_is_given_once(capsys: Capture, typed: str, told: str) -> None:
    assert told in only_error(call(capsys, typed.split()))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            "run ugr --seeds 3",
            "did you mean '--seed'? (--seeds is an option of compare, ablate, baseline)",
        ),
        ("run ugr --total-budget 3h", "(--total-budget is an option of sweep)"),
        ("resend --dataset office", "(--dataset is an option of run, sweep, compare, "),
        ("clean --records x", "(--records is an option of leaderboard)"),
    ],
)
def test_an_option_of_another_command_is_told_as_that(
    capsys: Capture, typed: str, told: str
) -> None:
    assert told in only_error(call(capsys, typed.split()))


def test_an_option_may_be_repeated_as_it_is(capsys: Capture) -> None:
    assert "'zzzz'" in only_error(call(capsys, "run zzzz --seed 1 --seed 1".split()))


def completed(line: str, environment: dict[str, str], answer: Path) -> list[str]:
    """What a shell is offered after a line, by the protocol of argcomplete."""
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    words = [sys.executable, "-m", "genrec_bench"]
    # It answers by a file, and ends in a way of its own.
    subprocess.run(words, env={**environment, **asked}, capture_output=True, check=False)
    return [word.strip() for word in answer.read_text().split("\n")]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("genrec-bench comp", ["compare"]),
        ("genrec-bench run v", ["vstar"]),
        ("genrec-bench run ugr --dataset indus", ["industrial", "industrial-ugr"]),
        ("genrec-bench data ver", ["verify"]),
        ("genrec-bench compare --pru", ["--pruner"]),
        ("genrec-bench compare --pruner ha", ["halving"]),
    ],
)
def test_a_shell_completes(
    line: str, offered: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    assert completed(line, environment, tmp_path / "answer") == offered


def test_version_and_help_ask_nothing_of_unix(environment: dict[str, str]) -> None:
    code = f"""
import os, sys
for name in ("fcntl", "grp", "pwd", "termios"):
    sys.modules[name] = None
for name in ("sched_getaffinity", "fork", "getuid"):
    delattr(os, name)
from genrec_bench.commands.cli import main
for words in (["--version"], ["--help"], *([name, "--help"] for name in {list(COMMANDS)})):
    try:
        main(words)
    except SystemExit as left:
        assert not left.code, words
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("genrec-bench ")
