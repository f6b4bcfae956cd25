"""Runs from files and from records, what two records differ in, and what a record tells."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from board_world import comparable
from small_models import save_backbone
from tiny_runs import MINE, SETTINGS, Bench, Called, call, only_error

import genrec_bench
from genrec_bench.errors import redacted
from genrec_bench.runs.record_schema import mistakes_in
from genrec_bench.runs.records import read_record
from genrec_bench.storage.secrets import told_words

pytestmark = pytest.mark.usefixtures("somewhere")


def again(bench: Bench, *words: str) -> Called:
    """`run`, of which a file says the most."""
    place = ["--data-dir", str(bench.data), "--output", "again", "--no-mlflow"]
    return call(bench.capsys, ["run", *words, *place])


def record_of(called: Called) -> genrec_bench.Record:
    assert called.code == 0, called.err
    return read_record(Path(called.out.strip().removeprefix("record: ")))


def test_a_record_says_how_to_make_it_again(bench: Bench) -> None:
    folder = bench.run("ugr", "--seed", "4", "--budget", "100Mflop", "alpha_min=0.25")
    first = read_record(folder)
    called = again(bench, "--from-record", str(folder))
    second = record_of(called)
    assert comparable(second) == comparable(first)
    assert called.err.endswith(
        "One track: the two may be compared.\n"
        "The target of every test example stands in the same place.\n"
    )
    # What is typed counts.
    words = ("--from-record", str(folder), "--seed", "5", "--set", "alpha_min=0.5")
    third = record_of(again(bench, *words))
    assert third["seed"] == 5 and third["configuration"]["hyperparameters"]["alpha_min"] == 0.5
    assert third["track"] == first["track"]


def test_what_tuning_cost_goes_along(bench: Bench) -> None:
    from sweep_world import quick_context

    from genrec_bench.runs.jobs import Job, do

    bill = {"limit": "1Gflop", "study": "s", "trials": 3, "flops": 1e9, "seconds": 1.0}
    bill |= {"tokens": 5, "failed": 0, "pruned": 0}
    job = Job("c", "sft", control="SFT continued", tuning=bill)
    first = read_record(do(job, quick_context(bench.data, bench.output)))
    assert first.path is not None
    second = record_of(again(bench, "--from-record", str(first.path)))
    assert (second["control"], second["tuning"]) == ("SFT continued", bill)
    assert second["track"] == first["track"]


def test_a_run_is_printed_as_a_file_and_read_from_it(bench: Bench) -> None:
    printed = call(
        bench.capsys,
        ["run", "grpo", "--seed", "2", "--print-config", "--set", *SETTINGS, "beta=0.1"],
    )
    assert printed.code == 0 and printed.err == "" and not Path("runs").exists()
    content = yaml.safe_load(printed.out)
    assert list(content) == ["algorithm", "dataset", "backbone", "budget", "seed", "set"]
    assert content["set"]["beta"] == 0.1 and content["set"]["learning_rate"] is None
    assert content["set"]["steps"] == 2 and content["set"]["keep"] == "last"
    Path("run.yaml").write_text(printed.out)
    Path("run.json").write_text(json.dumps(content))
    expected = bench.record("grpo", "--seed", "2", "beta=0.1")
    for file in ("run.yaml", "run.json"):
        found = record_of(again(bench, "--config", file, "--dataset", "industrial"))
        assert comparable(found) == comparable(expected)
    words = ["run", "--config", "run.yaml", "--print-config"]
    assert call(bench.capsys, words).out == printed.out
    assert "seed: 7" in call(bench.capsys, [*words, "--seed", "7"]).out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("algorithm: grpo\nsed: 3", "unknown key 'sed'; did you mean 'seed'?"),
        ("algorithm: [grpo]", "key 'algorithm' must be text"),
        ("algorithm: grpo\nset: {steps: [1]}", "key 'set.steps"),
        ("algorithm: grpo\nset: {stps: 1}", "did you mean 'steps'?"),
        ("algorithm: grpo\nseed: -1", "-1: must be a whole number from 0"),
        ("algorithm: grpo\nseed: 1\nseed: 2", "the key 'seed' is there twice"),
        ("algorithm: grpo\nbudget: lots", "budget 'lots'"),
        ("dataset: synthetic", "run: name an algorithm, or give --config or --from-record"),
        ("- grpo", "the file must be a mapping"),
        ("algorithm: {", "not valid YAML"),
    ],
)
def test_a_file_that_is_wrong_is_named(bench: Bench, text: str, message: str) -> None:
    Path("run.yaml").write_text(text)
    assert message in only_error(again(bench, "--config", "run.yaml"))
    assert not Path("again").exists()


def test_a_file_that_is_not_there(bench: Bench) -> None:
    assert "--config none.yaml: there is no such file" in only_error(
        again(bench, "--config", "none.yaml")
    )
    assert "none.json: there is no such record or folder" in only_error(
        again(bench, "--from-record", "none.json")
    )
    assert "not allowed with" in only_error(again(bench, "--config", "a", "--from-record", "b"))


def test_what_a_record_only_names_has_to_be_given(bench: Bench) -> None:
    save_backbone(Path("mine"))
    Path("plugin.py").write_text(MINE)
    words = ("--backbone", "mine", "sft_epochs=0", "steps=1")
    folder = bench.run("./plugin.py", *words)
    shutil.move("mine", "moved")
    record = ("--from-record", str(folder))
    message = only_error(again(bench, *record))
    assert message.endswith("a folder or file called 'mine'; say where it is by --backbone")
    message = only_error(again(bench, *record, "--backbone", "moved"))
    assert "no algorithm 'plugin'" in message
    assert message.endswith("a file of your own is named by its path, as in ./plugin.py)")
    found = record_of(again(bench, "./plugin.py", *record, "--backbone", "moved"))
    assert found["metrics"] == read_record(folder)["metrics"]


def test_two_records_are_compared(bench: Bench) -> None:
    first, second = bench.run("grpo"), bench.run("ugr", "--seed", "1", "group_size=5")
    told = call(bench.capsys, ["diff", str(first), str(second / "record.json")])
    assert told.code == 0 and told.err == ""
    for row in ("seed  ", "configuration.settings.group_size", "fingerprints.algorithm"):
        assert f"\n{row}" in told.out
    assert "beam_width" not in told.out, "what is equal is not shown"
    assert told.out.startswith("Not to be compared: two tracks (group_size).\n\nsettings ")
    assert told.out.index("two tracks") < told.out.index("metrics.test")
    content = json.loads(call(bench.capsys, ["diff", str(first), str(second), "--json"]).out)
    assert content["same_track"] is False and content["examples"]["of"] == 30
    rows = {one["key"]: one for one in content["differences"]}
    assert rows["configuration.settings.group_size"] == {
        "section": "settings",
        "key": "configuration.settings.group_size",
        "first": 4,
        "second": 5,
    }
    assert rows["configuration.hyperparameters.alpha_min"]["first"] == "–"
    sections = {one["section"] for one in content["differences"]}
    assert sections >= {"settings", "code", "track", "costs", "run"} and "other" not in sections
    same = call(bench.capsys, ["diff", str(first), str(first)])
    assert same.out.splitlines() == [
        "One track: the two may be compared.",
        "",
        "The target of every test example stands in the same place.",
    ]
    assert "a: there is no such record or folder" in only_error(
        call(bench.capsys, ["diff", "a", "b"])
    )
    (first.parent.parent / "empty").mkdir()
    assert "holds no record.json" in only_error(
        call(bench.capsys, ["diff", str(first), str(first.parent.parent / "empty")])
    )


def test_a_record_has_its_words(bench: Bench) -> None:
    folder = bench.run("grpo", "--seed", "3")
    record = read_record(folder)
    assert record["command"][:4] == ["run", "grpo", "--dataset", "industrial"]
    assert record["command"][-1] == SETTINGS[-1] and "runs" in record["command"]
    assert str(bench.data) not in (folder / "record.json").read_text()
    # Records of earlier versions have none, and one of another type is named.
    older = {key: value for key, value in record.items() if key not in ("command", "sha256")}
    assert mistakes_in(older) == []
    assert "key 'command' must be a list" in mistakes_in({**older, "command": "run"})[0]
    found = genrec_bench.run(
        "grpo",
        "industrial",
        seed=5,
        data_dir=bench.data,
        settings={"steps": 1, "sft_epochs": 0},
        quiet=True,
    )
    assert found["command"][:4] == ["run", "grpo", "--seed", "5"]
    assert found["command"][-2:] == ["steps=1", "sft_epochs=0"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://ann:pw@host/db?sslmode=x", "postgresql://***@host/db?sslmode=x"),
        ("https://host/x?a=1&access_token=t0p&b=2", "https://host/x?a=1&access_token=***&b=2"),
        ("mysql://host/db?password=p%40w", "mysql://host/db?password=***"),
        ("HF_TOKEN=abc", "HF_TOKEN=***"),
        ("hf_abcdefghijklmnopqrst", "***"),
        ("Authorization: eyJhbGciOiJIUzI1NiJ9.e30.x", "Authorization: ***"),
        ("api-key=1 secret=2", "api-key=*** secret=***"),
        # These are no secrets.
        ("tokens_per_forward=4096", "tokens_per_forward=4096"),
        ("token_learning_rate=0.1", "token_learning_rate=0.1"),
        ("20Mtok", "20Mtok"),
        ("ray://host:10001", "ray://host:10001"),
    ],
)
def test_secrets_are_not_told(text: str, told: str) -> None:
    assert redacted(text) == told


def test_words_tell_no_folder_of_a_machine(tmp_path: Path) -> None:
    away = "/" + "home/ann/data"
    words = ["--data-dir", away, f"--output={tmp_path / 'runs'}", "--token", "abc", "--seed", "1"]
    words += [f"embeddings={away}", f"sqlite:///{away}/a.db", "C:" + "\\Users\\ann\\x.py"]
    words += ["Qwen/Qwen3-0.6B", "1/2", f"grpo,{away}/mine.py:beta=1"]
    assert told_words(words) == [
        *("--data-dir", ".../data", "--output=runs", "--token", "***", "--seed", "1"),
        *("embeddings=.../data", "sqlite://.../a.db", ".../x.py"),
        *("Qwen/Qwen3-0.6B", "1/2", "grpo,.../mine.py:beta=1"),
    ]
