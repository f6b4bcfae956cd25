"""What documents tell a reader to type is understood, and names what it says it names."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from genrec_bench.commands.cli import COMMANDS, main, make_parser
from genrec_bench.commands.examples import EXAMPLES
from genrec_bench.commands.sids_command import codes_of, recipe_of
from genrec_bench.data.cards import MARK, load_card
from genrec_bench.runs.options import add_context_options
from genrec_bench.studies.analyses import analysis_names, find_analysis

CALL = "genrec-bench "


def commands(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every command of a code block, with its document."""
    for path in sorted([*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("*/README.md")]):
        text = path.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?: {4})?(genrec-bench .*)$", text, flags=re.MULTILINE):
            # What stands in brackets may be left out.
            yield path.name, shlex.split(re.sub(r"\[[^]]*\]", "", line), comments=True)[1:]


def test_every_command_is_understood(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = 0
    for document, words in commands(root):
        try:
            make_parser().parse_args(words)
        except SystemExit as end:
            said = capsys.readouterr().err
            assert not end.code, f"{document}: {CALL}{' '.join(words)}: {said}"
        read += 1
    assert read > 20


ANALYSES = [f"analyze {name}" for name in analysis_names()]


@pytest.mark.parametrize("words", sorted({*EXAMPLES, *ANALYSES}))
def test_every_help_ends_with_examples_that_are_understood(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*words.split(), "--help"])
    _, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    lines = examples.splitlines()
    assert lines and all(line.startswith(f"  {CALL}{words}") for line in lines)
    for line in lines:
        typed = shlex.split(line)[1:]
        if "--help" not in typed:
            args = make_parser().parse_args(typed)
            if "options" in args:
                analysis = find_analysis(args.kind)
                # Abbreviated, `--budget` would pass for `--budgets`.
                parser = type(make_parser())(prog="analysis", allow_abbrev=False)
                add_context_options(parser, budget=analysis.one_budget)
                analysis.add_options(parser)
                if analysis.plan is not None:
                    parser.add_argument("--plan", action="store_true")
                parser.parse_args(args.options)


def test_no_command_is_without_examples() -> None:
    assert {words.split()[0] for words in EXAMPLES if words} == set(COMMANDS)


def test_labels_of_sids_are_those_that_commands_of_the_document_give(root: Path) -> None:
    made: set[str] = set()
    asked: set[str] = set()
    for document, words in commands(root):
        args = make_parser().parse_args(words)
        if words[:2] == ["sids", "build"] and args.name != "NAME":
            card = load_card(args.name)
            label = args.label or recipe_of(args, card, True).label(codes_of(args, card))
            made.add(f"{document}: {args.name}{MARK}{label}")
        dataset = getattr(args, "dataset", None) or getattr(args, "name", None) or ""
        if MARK in dataset:
            asked.add(f"{document}: {dataset}")
    assert asked and asked <= made
