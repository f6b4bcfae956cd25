"""A folder where a file is needed, a file where a folder is, and files with nothing in them."""

from pathlib import Path

import pytest
from tiny_runs import call, only_error

pytestmark = pytest.mark.usefixtures("somewhere")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("run ./folder.py", "./folder.py: is a folder, and a file is needed"),
        ("run ./gone.py", "./gone.py: there is no such file"),
        ("run grpo --config folder.py", "--config folder.py: is a folder, and a file is needed"),
        ("sft import folder.py", "folder.py: is a folder, and a file is needed"),
        ("sids import synthetic folder.py --as a", "folder.py: is a folder, and a file is needed"),
        ("ablate empty.yaml", "empty.yaml: is empty"),
        ("run --config empty.yaml", "--config empty.yaml: is empty"),
        ("sids import office empty.yaml --as a", "empty.yaml is empty"),
        ("clean --output empty.yaml", "--output empty.yaml: is a file, and a folder is needed"),
        ("runs list --output gone", "--output gone: there is no such folder"),
        ("resend --output empty.yaml", "--output empty.yaml: is a file, and a folder is needed"),
        ("leaderboard --records empty.yaml", "--records empty.yaml: is a file, and a folder is"),
    ],
)
def test_what_is_of_the_wrong_kind_is_told_as_that(
    capsys: pytest.CaptureFixture[str], typed: str, said: str
) -> None:
    Path("folder.py").mkdir()
    Path("empty.yaml").write_text("# nothing\n" if "config" in typed else "")
    assert only_error(call(capsys, typed.split())).startswith(said)
