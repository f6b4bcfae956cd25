"""What a command prints: no secret, and no command to a terminal, whoever printed it."""

import argparse
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from genrec_bench.commands import cli
from genrec_bench.commands.told_streams import ToldStream, told_streams
from genrec_bench.errors import UserError, one_line, plain, redacted
from genrec_bench.progress import Progress

SECRETS = [
    "postgresql://ann:hunter22@host/db",
    "postgresql://ann:p@ss@host/db",
    "mysql://host/db?user=ann&password=hunter22",
    "https://host/file?X-Amz-Signature=hunter22&size=3",
    "https://host/a?api_key=hunter22",
    "https://hunter22@host/file.gz",
    "Authorization: Bearer hunter22hunter22",
    '{"password": "hunter22"}',
    "{'api-key': 'hunter22'}",
    "(password='hunter22')",
    "HF_TOKEN=hunter22",
    "hf_hunter22hunter22",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_secret_is_told_by_whichever_way(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "hunter22" not in redacted(text) and "***" in redacted(text)
    assert "hunter22" not in one_line(f"connection to {text} failed")
    assert "hunter22" not in str(UserError(f"cannot fetch {text}"))
    logger = logging.getLogger("someone")
    with told_streams():
        print(text)
        print(f"error: {text}: refused", file=sys.stderr)
        Progress().say(text)
        handler = logging.StreamHandler()
        logger.addHandler(handler)
        logger.error("of a library: %s", text)
        logger.removeHandler(handler)
    said = capsys.readouterr()
    assert "hunter22" not in said.out + said.err
    assert said.err.count("***") >= 3


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("https_proxy", "http://ann:s3cret-proxy@proxy:3128", "s3cret-proxy"),
        ("HTTP_PROXY", "ann:s3cret-proxy@proxy:3128", "s3cret-proxy"),
        ("MLFLOW_TRACKING_PASSWORD", "s3cret-mlflow", "s3cret-mlflow"),
        ("HF_TOKEN", "anything-else", "anything-else"),
        ("MLFLOW_TRACKING_URI", "https://ann:s3cret-uri@host", "s3cret-uri"),
    ],
)
def test_what_variables_hold_is_told_nowhere(
    name: str, value: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secret in redacted(f"a library says: {secret} is wrong")
    monkeypatch.setenv(name, value)
    assert redacted(f"a library says: {secret} is wrong") == "a library says: *** is wrong"


def test_what_is_no_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", os.path.abspath("here"))
    assert redacted(os.path.abspath("here")) == os.path.abspath("here")
    for text in (
        '{"tokens": 5, "urls": ["http://host/a", "b@c"], "token_learning_rate": "0.1"}',
        "https://host/a?tokens_per_forward=3",
        "HR@10 0.5  NDCG@10 0.4",
        "Ünïcödé 👩\u200d🔬 \u05d0 a\tb\nc\r\nd",
    ):
        assert redacted(plain(text)) == text


@pytest.mark.parametrize("sign", "\x1b \x07 \x08 \0 \x7f \x9b \u202e \u2066 \udcff".split(" "))
def test_no_foreign_text_commands_a_terminal(
    sign: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(_: argparse.Namespace) -> int:
        print(f"title {sign}[2J")
        Progress().say(f"reason {sign}[2J")
        raise UserError(f"a server says {sign}[2J")

    class Parser(argparse.ArgumentParser):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.set_defaults(execute=execute, typed=["data"])

    monkeypatch.setattr(cli, "make_parser", Parser)
    assert cli.main([]) == 2
    said = capsys.readouterr()
    for line in [*said.out.splitlines(), *said.err.splitlines()]:
        assert line.isprintable(), line
    assert len(said.err.splitlines()) == 2 and len(said.out.splitlines()) == 1


def test_a_terminal_that_lacks_letters_gets_them_written_out() -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream: Any = ToldStream(raw)
    print("ünï\udcff", file=stream, flush=True)
    assert raw.buffer.getvalue() == b"\\xfcn\\xef\\ufffd\n"


@pytest.mark.parametrize("word", ["a\0b", "a\ud800", "\udcff"])
@pytest.mark.parametrize("option", ["--dataset", "--set", "--output", "--backbone"])
def test_an_argument_that_is_no_text_is_refused(
    option: str, word: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["run", "grpo", option, word, "--data-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "is no text in UTF-8" in said and said.strip().isprintable()
    assert not list(tmp_path.iterdir())
