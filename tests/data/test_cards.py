"""Dataset cards: what is right, and how each mistake is named."""

from pathlib import Path

import pytest
import yaml

from genrec_bench.data.cards import card_names, load_card
from genrec_bench.errors import UserError

CARDS = Path(__file__).parents[2] / "datasets"

RAW = {
    "format": "csv",
    "interactions": {"file": "log.csv", "url": "https://example.org/log.csv"},
}
SIDS = {"method": "rq-kmeans", "embeddings": "text"}


def test_every_card_of_the_package_is_valid() -> None:
    levels = {name: load_card(name).num_levels for name in card_names()}
    assert levels == {
        "beauty": 4,
        "industrial": 3,
        "industrial-ugr": 4,
        "instruments": 4,
        "office": 3,
        "office-ugr": 4,
        "sports": 4,
        "synthetic": 3,
        "yelp": 4,
    }
    hashed = load_card("industrial").sha256
    assert not any("train" in path for path in hashed), "only a part of it was at hand"


def test_every_dataset_of_the_papers_says_where_its_raw_files_are() -> None:
    for name in card_names():
        raw = load_card(name).raw
        assert (raw is None) == (name == "synthetic")
        if raw is not None:
            assert raw.licence and raw.items is not None
            for source in (raw.interactions, raw.items):
                # Yelp's licence allows no download by a program.
                assert source.url.startswith("https://") != (name == "yelp")
            assert bool(raw.how) == (name == "yelp")


def test_an_unknown_dataset_names_the_nearest_and_all() -> None:
    with pytest.raises(
        UserError, match="did you mean 'industrial'.*beauty, industrial, industrial-ugr, instr"
    ):
        load_card("industral")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"histroy_length": 3}, r"unknown key 'histroy_length'; did you mean 'history_length'"),
        ({"layout": None}, r"key 'layout' must be text"),
        ({"layout": "csv"}, r"key 'layout' must be one of minionerec, lcrec, synthetic"),
        ({"protocol": "chronological"}, r"key 'protocol' must be one of leave-one-out"),
        ({"layout": "", "category": "", "protocol": "no"}, r"key 'protocol' must be one of chron"),
        ({"layout": "", "category": "", "raw": None}, r"key 'layout' must be there, or else"),
        ({"raw": None}, r"key 'sids' must be there if raw is"),
        ({"sids": None}, r"key 'sids' must be there if raw is"),
        ({"raw": None, "sids": None}, r"key 'filters' must be there only if raw is"),
        ({"raw": RAW | {"format": "amazon"}}, r"key 'raw.format' must be one of amazon-2014, "),
        ({"raw": RAW | {"malformed": 1}}, r"key 'raw.malformed' must be a share from 0 to below 1"),
        ({"raw": RAW | {"interactions": {"file": "a/b", "url": "u"}}}, r"key 'raw.interactions.f"),
        (
            {"raw": RAW | {"interactions": {"file": "a"}}},
            r"key 'raw.interactions.url' must be there",
        ),
        (
            {"raw": RAW | {"columns": {"time_unit": "h"}}},
            r"key 'raw.columns.time_unit' must be one",
        ),
        ({"raw": RAW | {"columns": {"separator": ",,"}}}, r"key 'raw.columns.separator' must be"),
        ({"raw": RAW | {"columns": {"separator": '"'}}}, r"key 'raw.columns.separator' must be"),
        ({"raw": RAW | {"columns": {"user": "item"}}}, r"key 'raw.columns' must be other names"),
        ({"raw": RAW | {"interactions": {"file": "..", "url": "u"}}}, r"key 'raw.interactions.f"),
        (
            {"raw": RAW | {"interactions": {"file": "a", "url": "u", "sha256": "12ab"}}},
            r"key 'raw.interactions.sha256' must be 64 hex",
        ),
        ({"filters": [{"step": "score"}]}, r".*filters.1"),
        ({"filters": [{"step": "window", "since": "2016-13-01"}]}, r".*filters.1.since"),
        ({"sids": SIDS | {"method": "kmeans"}}, r"key 'sids.method' must be one of rq-kmeans, "),
        ({"sids": SIDS | {"collisions": "drop"}}, r"key 'sids.collisions' must be one of keep, "),
        (
            {"raw": RAW, "sids": SIDS},
            r"key 'sids.embeddings' must be collaborative or a file .npy, ",
        ),
        ({"sids": SIDS | {"seed": -1}}, r"key 'sids.seed' must be at least 0"),
        ({"history_length": 0}, r"key 'history_length' must be from 1 to"),
        ({"history_length": 10**20}, r"key 'history_length' must be from 1 to"),
        ({"history_length": True}, r"key 'history_length' must be an integer"),
        ({"codes_per_level": [256, "x"]}, r"key 'codes_per_level.2' must be an integer, not 'x'"),
        ({"codes_per_level": 256}, r"key 'codes_per_level' must be a list"),
        ({"shared_sids": "random"}, r"key 'shared_sids' must be one of popularity, index"),
        ({"expected": {"items": 3}}, r"missing key 'expected.source'"),
        ({"expected": {"items": 0, "source": "x"}}, r"key 'expected.items' must be at least 1"),
        ({"expected": 3}, r"key 'expected' must be a mapping"),
        ({"name": "other"}, r"key 'name' must be the name of the file"),
        ({"category": ""}, r"key 'category' must be there if files of others are imported"),
    ],
)
def test_a_bad_card_names_file_and_key(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    content = yaml.safe_load((CARDS / "beauty.yaml").read_text()) | change
    (tmp_path / "beauty.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=f"datasets/beauty.yaml: {message}"):
        load_card("beauty", tmp_path)


def test_a_card_that_lacks_a_key_or_is_no_yaml(tmp_path: Path) -> None:
    content = yaml.safe_load((CARDS / "beauty.yaml").read_text())
    del content["protocol"]
    (tmp_path / "beauty.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="missing key 'protocol'"):
        load_card("beauty", tmp_path)
    for text in ("a: [", "a: " + "[" * 5000):
        (tmp_path / "beauty.yaml").write_text(text)
        with pytest.raises(UserError, match=r"beauty\.yaml: not valid YAML: [^\n]*$"):
            load_card("beauty", tmp_path)
    text = (CARDS / "beauty.yaml").read_text()
    (tmp_path / "beauty.yaml").write_text(text + "version: 2\n")
    with pytest.raises(UserError, match=r"line \d+: the key 'version' is there twice"):
        load_card("beauty", tmp_path)


def test_a_tab_between_columns(tmp_path: Path) -> None:
    content = yaml.safe_load((CARDS / "beauty.yaml").read_text())
    content["raw"] = RAW | {"columns": {"separator": "\t"}}
    content["sids"] = SIDS | {"embeddings": "collaborative"}
    (tmp_path / "beauty.yaml").write_text(yaml.safe_dump(content))
    raw = load_card("beauty", tmp_path).raw
    assert raw is not None and raw.columns.separator == "\t"


def test_vectors_beside_a_card_are_found_from_anywhere(tmp_path: Path) -> None:
    content = yaml.safe_load((CARDS / "beauty.yaml").read_text())
    for given, meant in (("mine.npy", tmp_path / "mine.npy"), ("/a/b.npy", Path("/a/b.npy"))):
        content["sids"] = SIDS | {"embeddings": given}
        (tmp_path / "beauty.yaml").write_text(yaml.safe_dump(content))
        sids = load_card("beauty", tmp_path).sids
        assert sids is not None and Path(sids.embeddings) == meant


def test_what_is_no_card_among_cards(tmp_path: Path) -> None:
    (tmp_path / "._beauty.yaml").write_bytes(b"\0")
    assert card_names(tmp_path) == []
    (tmp_path / "beauty.yaml").mkdir()
    with pytest.raises(UserError, match=r"beauty\.yaml cannot be read: Is a directory"):
        load_card("beauty", tmp_path)


def test_cards_of_ones_own_stand_beside_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load((CARDS / "beauty.yaml").read_text()) | {"name": "mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("GENREC_BENCH_CARDS", str(tmp_path))
    assert load_card("mine").title == load_card("beauty").title
    assert {"mine", "industrial"} <= set(card_names())
    (tmp_path / "broken.yaml").write_text("name: broken")
    with pytest.raises(UserError, match=f"^{tmp_path}/broken.yaml: missing key"):
        load_card("broken")
    (tmp_path / "yelp.yaml").write_text("name: yelp")
    with pytest.raises(UserError, match=r"yelp\.yaml: there is a card 'yelp' already"):
        load_card("yelp")
    assert load_card("mine").name == "mine"  # no other card is worse off for it
    with pytest.raises(UserError, match=r"your own are NAME\.yaml in the folder \$GENREC_BENCH"):
        load_card("nothing")
    monkeypatch.setenv("GENREC_BENCH_CARDS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"\$GENREC_BENCH_CARDS is .*, which is no folder"):
        load_card("industrial")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": 0.5}, "probabilities that sum to 1"),
        ({"link_weights": [0.5, 0.4]}, "link_weights' must be positive and sum to 1"),
        ({"items_per_subcategory": 17}, "'codes_per_level' must be at least"),
        ({"shared_sid_share": 0.7}, "shared_sid_share"),
        ({"longest": 4}, "shortest"),
        ({"qualities": ["large"], "materials": ["oak"]}, "enough for a title"),
    ],
)
def test_bad_synthetic_parameters_are_named(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    content = yaml.safe_load((CARDS / "synthetic.yaml").read_text())
    content["synthetic"] |= change
    (tmp_path / "synthetic.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        load_card("synthetic", tmp_path)
