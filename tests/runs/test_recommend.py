"""A trained policy put to use: it ranks as the evaluation did, wherever its folder lies."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import save_backbone
from sweep_world import quick_context
from tiny_runs import MINE, NUM_ITEMS, Called, call, only_error, tiny_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from genrec_bench.errors import UserError
from genrec_bench.runs.histories import read_histories
from genrec_bench.runs.jobs import Job, do
from genrec_bench.runs.opened_policy import open_policy
from genrec_bench.runs.recommender import COLUMNS, Recommender
from genrec_bench.storage.parquet import read_frame
from genrec_bench.storage.row_files import read_rows, write_rows

Capture = pytest.CaptureFixture[str]
NAMES = [f"item {item}" for item in range(NUM_ITEMS)]
PLAIN = ("grpo", "pass_samples=0", "validations=0")

OWN_ORDER = (
    MINE.replace("GRPO, told again", "GRPO that ranks from the last to the first")
    + '''
    reranks = True

    def rerank(self, tree, scores):
        """Turn the list round."""
        return -scores.log_probs.sum(-1).masked_fill(~tree.valid, float("inf"))
'''
)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs an algorithm once and returns the folder of the run."""
    known: dict[tuple[str, ...], Path] = {}

    def train(algorithm: str, *words: str) -> Path:
        key = (algorithm, *words)
        if key not in known:
            context = quick_context(data, tmp_path_factory.mktemp("runs"))
            known[key] = do(Job("one", algorithm, words), context).parent
        return known[key]

    return train


@pytest.fixture
def policy(trained: Callable[..., Path]) -> Recommender:
    return open_policy(trained(*PLAIN))


def silent(line: str) -> None:
    raise AssertionError(line)


@pytest.mark.parametrize(
    ("algorithm", "words", "others"),
    [
        ("grpo", (), set()),
        ("ugr", ("rerank=true", "learning_rate=0.01", "steps=4"), set()),
        ("vstar", ("inference=ved", "initial_beam=2"), {"heads.safetensors"}),
        (
            "vstar",
            ("inference=ved", "initial_beam=2", "value_features=probability,cosine,embeddings"),
            {"heads.safetensors", "embeddings.safetensors"},
        ),
    ],
)
def test_lists_are_those_of_the_evaluation(
    trained: Callable[..., Path],
    tmp_path: Path,
    algorithm: str,
    words: tuple[str, ...],
    others: set[str],
) -> None:
    run = trained(algorithm, *words)
    # Away from its record, its data and its SFT start.
    folder = shutil.copytree(run / "policy", tmp_path / "elsewhere")
    assert others <= {path.name for path in folder.iterdir()}
    policy = open_policy(folder, tell=silent)
    examples = tiny_dataset().test
    histories = [[NAMES[i] for i in examples.history(row)] for row in range(len(examples))]
    found = policy.recommend_many(histories, k=10)
    assert list(found.columns) == ["row", *COLUMNS]
    outcomes = pd.read_parquet(run / "outcomes.parquet").query("split == 'test'")
    for row, target, expected in zip(
        range(len(examples)), examples.targets, outcomes["item_rank"], strict=True
    ):
        listed = found[found["row"] == row]["item"].tolist()
        assert len(listed) == len(set(listed)) == 10
        rank = listed.index(NAMES[target]) if NAMES[target] in listed else -1
        assert rank == (expected if expected < 10 else -1)
    # One by one it is the same.
    alone = policy.recommend(histories[3])
    pd.testing.assert_frame_equal(
        alone, found[found["row"] == 3].drop(columns="row").reset_index(drop=True), rtol=1e-4
    )


def test_plain_transformers_reads_the_folder(trained: Callable[..., Path]) -> None:
    folder = trained(*PLAIN) / "policy"
    policy = open_policy(folder)
    items = pd.read_parquet(folder / "items.parquet").set_index("item")
    assert policy.items["sid"].tolist() == items["sid"].tolist()
    history = ["item 3", "item 4"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("".join(items["sid"][history]), return_tensors="pt")["input_ids"]
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        best = policy.recommend(history, k=1).iloc[0]
        codes = tokenizer(best["sid"], return_tensors="pt")["input_ids"][:, 1:]
        whole = torch.cat([tokens, codes], dim=1)
        log_probs = model(input_ids=whole).logits[0, :-1].log_softmax(-1)
    found = log_probs.gather(1, whole[0, 1:, None])[-3:].sum()
    assert float(found) == pytest.approx(best["log_prob"], abs=1e-4)
    assert str(tokenizer.decode(codes[0])).replace(" ", "") == best["sid"]
    assert tokenizer("no code at all")["input_ids"] == [1, 0]
    # The card names what is there, and no run, folder or time.
    card = (folder / "README.md").read_text()
    assert "# grpo on industrial" in card and "| SFT start |" in card
    assert str(folder.parent.name) not in card and str(folder.parents[2]) not in card


def test_seen_items_make_room_for_others(policy: Recommender) -> None:
    history = ["item 4", "item 5"]
    before, after = (policy.recommend(history, 10, exclude_seen=no) for no in (False, True))
    assert len(before) == len(after) == 10
    kept = [item for item in before["item"] if item not in history]
    assert after["item"].tolist()[: len(kept)] == kept and not set(after["item"]) & set(history)
    assert after["rank"].tolist() == list(range(1, 11))


def test_a_tie_is_in_the_order_of_the_card(policy: Recommender) -> None:
    with pytest.warns(UserWarning, match="23 candidates are needed; evaluation had 10"):
        table = policy.recommend(["item 6"], NUM_ITEMS)
    tied = table[table["item"].isin(["item 7", "item 8"])]
    assert tied["log_prob"].nunique() == tied["sid"].nunique() == 1
    catalog = tiny_dataset().catalog
    (sid,) = set(catalog.sid_of_item[[7, 8]])
    assert tied["item"].tolist() == [NAMES[i] for i in catalog.items_of_sid(int(sid))]
    assert table["log_prob"].is_monotonic_decreasing


def test_more_than_there_is_a_long_history_and_none(trained: Callable[..., Path]) -> None:
    said: list[str] = []
    policy = open_policy(trained(*PLAIN), tell=said.append)
    assert set(policy.recommend(["item 1"], 99)["item"]) == set(NAMES)
    assert said[0] == f"k=99: the catalog has {NUM_ITEMS} items, and all are ranked"
    assert set(policy.recommend(["item 1"], 10**12, exclude_seen=True)["item"]) < set(NAMES)
    said.clear()
    most = policy.about["history_length"]
    long = policy.recommend(NAMES[:20] * 2)
    assert said == [f"of the history the last {most} items are read, as in training"]
    pd.testing.assert_frame_equal(long, policy.recommend((NAMES[:20] * 2)[-most:]), rtol=1e-4)
    said.clear()
    assert len(policy.recommend([])) == 10 and not said
    assert policy.recommend_many([]).empty


def test_an_unknown_item_is_named_with_what_may_be_meant(policy: Recommender) -> None:
    titled = dataclasses.replace(
        policy, catalog=dataclasses.replace(policy.catalog, titles=("Red rake", "Hose") * 12)
    )
    for given, hint in {
        "itm 12": "did you mean 'item 12' (Red rake) or ",
        "rake": "did you mean 'item 0' (Red rake) or 'item 2' (Red rake) or 'item 4' (Red rake)?",
        "Read rak": "(Red rake)?",
        "zzz": "one that is there: 'item 0'",
    }.items():
        with pytest.raises(UserError) as error:
            titled.recommend(["item 1", given])
        assert f"history: there is no item {given!r} in industrial; " in str(error.value)
        assert hint in str(error.value)
    with pytest.raises(UserError, match=r"^row 1: history: there is no item 'x'"):
        policy.recommend_many([["item 1"], ["x"]])
    kept = policy.recommend_many([["item 1", "x"], ["item 1"]], unknown="skip")
    one, other = (kept[kept["row"] == row]["item"].tolist() for row in (0, 1))
    assert one == other
    for k in (0, "3", 2.5):
        with pytest.raises(UserError, match=f"^k={k!r}: must be a whole number of at least 1$"):
            policy.recommend(["item 1"], cast(int, k))
    for history in ("item 1", 1):
        with pytest.raises(UserError, match="history: must be a list of items, such as"):
            policy.recommend(cast(list[str], history))
        with pytest.raises(UserError, match="^histories: must be a list of lists of items$"):
            policy.recommend_many(cast(list[list[str]], history))
    assert len(policy.recommend(["item 1"], cast(int, np.int64(2)))) == 2


def test_what_cannot_rank_in_its_own_way_says_so(
    data: Path, tmp_path: Path, trained: Callable[..., Path]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN_ORDER)
    folder = trained(str(file)) / "policy"
    own = open_policy(folder, algorithm=str(file), tell=silent).recommend(["item 3"])
    said: list[str] = []
    plain = open_policy(folder, tell=said.append).recommend(["item 3"])
    assert len(said) == 1 and said[0].startswith("evaluation ranked in a way of mine's own (beam)")
    assert said[0].endswith("this ranks by beam search")
    assert plain["item"].tolist() == own["item"].tolist()[::-1] or (
        plain["log_prob"].is_monotonic_decreasing and own["log_prob"].is_monotonic_increasing
    )
    file.write_text(OWN_ORDER + "\n# changed\n")
    said.clear()
    open_policy(folder, algorithm=str(file), tell=said.append)
    assert said == ["mine: its code is not that of the run, so that it may rank otherwise"]
    with pytest.raises(UserError, match="is not the algorithm of this policy"):
        open_policy(folder, algorithm="sft")


def test_a_prompt_in_words_needs_an_item(capsys: Capture, data: Path, tmp_path: Path) -> None:
    save_backbone(tmp_path / "backbone")
    context = dataclasses.replace(
        quick_context(data, tmp_path / "runs"), backbone=str(tmp_path / "backbone")
    )
    record = do(Job("one", "sft", ("sft_epochs=0", "steps=1", "validations=0")), context)
    policy = open_policy(record, tell=silent)
    assert policy.policy.prompt_format.name == "text"
    assert len(policy.recommend(["item 3"])) == 10
    with pytest.raises(UserError, match="history: is empty, and this policy's prompts name"):
        policy.recommend([])
    tokens = AutoTokenizer.from_pretrained(record.parent / "policy")
    sid = policy.items["sid"][0]
    assert len(tokens(sid, add_special_tokens=False)["input_ids"]) == 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_many_histories_from_a_file(
    capsys: Capture, trained: Callable[..., Path], tmp_path: Path, ending: str
) -> None:
    histories = [["item 3", "item 4"], ["item 9"], []]
    table = pd.DataFrame({"user": ["ann", "bob", "ann"], "history": histories})
    if ending == "csv":
        table["history"] = ["item 3,item 4", '["item 9"]', ""]
    source, target = tmp_path / f"in.{ending}", tmp_path / "new" / f"out.{ending}"
    write_rows(source, table)
    assert read_histories(source) == (["ann", "bob", "ann"], histories)
    words = ["recommend", str(trained(*PLAIN) / "record.json"), "--k", "4"]
    called = call(capsys, [*words, "--input", str(source), "--out", str(target)])
    assert called.code == 0 and called.out == "" and called.err == f"written: {target}\n"
    called = call(capsys, [*words, "--input", str(source), "--out", str(target)])
    assert called.err == f"written: {target} (in place of an earlier file)\n"
    found = read_rows(target)
    assert found["user"].tolist() == ["ann"] * 4 + ["bob"] * 4 + ["ann"] * 4
    assert found["row"].astype(int).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    policy = open_policy(trained(*PLAIN))
    assert found["item"].tolist()[:4] == policy.recommend(histories[0], 4)["item"].tolist()
    assert found["rank"].astype(int).tolist() == [1, 2, 3, 4] * 3


def test_one_history_on_the_command_line(capsys: Capture, trained: Callable[..., Path]) -> None:
    folder = trained(*PLAIN)
    words = ["recommend", str(folder), "--history", "item 3, item 4", "--k", "3"]
    called = call(capsys, words)
    assert called.code == 0 and called.err == "" and len(called.out.splitlines()) == 5
    table = open_policy(folder).recommend(["item 3", "item 4"], 3)
    assert json.loads(call(capsys, [*words, "--json"]).out) == [
        {**row, "log_prob": pytest.approx(row["log_prob"])}
        for row in table.to_dict(orient="records")
    ]


def test_mistakes_are_one_line(
    capsys: Capture, trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = trained(*PLAIN)
    told: Callable[..., Called] = partial(call, capsys)
    run, none = str(folder), str(tmp_path / "none")
    (tmp_path / "in.csv").write_text("users,histories\n1,item 3\n")
    wrong = {
        ("recommend", run): "one of the arguments --history --input is required",
        ("recommend", none, "--history", ""): f"{none}: there is no such record or folder",
        ("recommend", str(tmp_path), "--history", ""): "holds neither a record nor a policy",
        ("recommend", run, "--history", "", "--k", "0"): "must be a whole number of at least 1",
        ("recommend", run, "--input", "a.csv"): "--input: goes with --out FILE",
        ("recommend", run, "--input", "a.txt", "--out", "a.csv"): "must end in .csv, .jsonl",
        ("recommend", run, "--input", "a.csv", "--out", "a.txt"): "must end in .csv, .jsonl",
        ("recommend", run, "--input", f"{none}.csv", "--out", "a.csv"): "there is no such file",
        (
            *("recommend", run, "--input", str(tmp_path / "in.csv"), "--out", "a.csv"),
        ): "there is no column 'history' (columns: users, histories)",
        ("recommend", run, "--history", "nothing"): "there is no item 'nothing'",
    }
    for words, message in wrong.items():
        assert message in only_error(told(words)), words


Harm = Callable[[Path], Any]


def say(**changes: Any) -> Harm:
    """Have the file that tells of a policy tell something else."""

    def harm(folder: Path) -> None:
        file = folder / "policy.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return harm


def say_of_items(**columns: list[Any]) -> Harm:
    """Have each row of the table of items tell the one value of a column."""

    def harm(folder: Path) -> None:
        file = folder / "items.parquet"
        table = read_frame(file)
        for name, (value,) in columns.items():
            table[name] = [value] * len(table)
        table.to_parquet(file)

    return harm


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "items.parquet").unlink(), "items.parquet: is missing; an earlier version"),
        (
            lambda f: (f / "items.parquet").write_bytes(b"PAR1"),
            "cannot be read as a table of items",
        ),
        (
            lambda f: (f / "policy.json").write_text('{"prompt": "compact"}'),
            "policy.json: missing key 'algorithm'",
        ),
        (say(history_length=10**12), "policy.json: key 'history_length' must be from 1 to 10000"),
        (say(codes_per_level=[10**9] * 3), "policy.json: key 'codes_per_level.1' must be from 1"),
        (say(beam_width=10**9), "policy.json: beam_width=1000000000: must be between 1 and 4096"),
        (say(extra_tokens={"[SURE]": "a"}), "key 'extra_tokens.[SURE]' must be an integer"),
        (say(rank_shared="anyhow"), "policy.json: key 'rank_shared' must be one of popularity"),
        (say_of_items(codes=[[1, 2]]), "items.parquet: cannot be read as a table of items"),
        (say_of_items(codes=["a"]), "items.parquet: cannot be read as a table of items"),
        (say_of_items(codes=[[2**40] * 3]), "items.parquet: cannot be read as a table of items"),
        (say_of_items(item=[7]), "names and titles of items must be texts"),
        (lambda f: (f / "policy.json").write_text("[1"), "policy.json: cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"0"), "cannot be loaded"),
        (lambda f: shutil.rmtree(f), "policy: is not there: the run failed, its policy was"),
    ],
)
def test_a_damaged_folder_is_named(
    trained: Callable[..., Path], tmp_path: Path, harm: Callable[[Path], Any], message: str
) -> None:
    run = shutil.copytree(trained(*PLAIN), tmp_path / "run")
    harm(run / "policy")
    with pytest.raises(UserError) as error:
        open_policy(run)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_history_of_another_kind_is_named(tmp_path: Path) -> None:
    for text in ("[1, 2", "[[1]]", '[{"a": 1}]'):
        write_rows(tmp_path / "in.csv", pd.DataFrame({"history": ["1", text]}))
        with pytest.raises(UserError, match="in.csv, row 1: history is no list of items but"):
            read_histories(tmp_path / "in.csv")
    write_rows(tmp_path / "in.parquet", pd.DataFrame({"history": [np.array([3, 4])]}))
    assert read_histories(tmp_path / "in.parquet") == (None, [["3", "4"]])
