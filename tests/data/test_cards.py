"""Dataset cards: what is right, and how each mistake is named."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from genrec_bench.data.cards import Card, card_names, load_card
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
        "synthetic-feedback": 3,
        "synthetic-hidden": 3,
        "synthetic-noisy": 3,
        "synthetic-sparse": 3,
        "yelp": 4,
    }
    hashed = load_card("industrial").sha256
    assert not any("train" in path for path in hashed), "only a part of it was at hand"


def test_every_dataset_of_the_papers_says_where_its_raw_files_are() -> None:
    for name in card_names():
        raw = load_card(name).raw
        assert (raw is None) == name.startswith("synthetic")
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


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own cards."""
    monkeypatch.setenv("GENREC_BENCH_CARDS", str(tmp_path))
    return tmp_path


def content_of(name: str = "beauty") -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CARDS / f"{name}.yaml").read_text())
    return content | {"name": "mine"}


def load(own: Path, content: dict[str, Any] | str) -> Card:
    """Write and load the card `mine`."""
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (own / "mine.yaml").write_text(text)
    return load_card("mine")


def interactions(**source: str) -> dict[str, Any]:
    return {"raw": RAW | {"interactions": {"file": "a", "url": "u"} | source}}


def columns(**names: str) -> dict[str, Any]:
    return {"raw": RAW | {"columns": names}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"histroy_length": 3}, "unknown key 'histroy_length'; did you mean 'history_length'"),
        ({"layout": "csv"}, "key 'layout' must be one of minionerec, .*, not 'csv'"),
        ({"protocol": "chronological"}, "key 'protocol' must be one of leave-one-out"),
        ({"layout": "", "category": "", "protocol": "no"}, "key 'protocol' must be one of chron"),
        ({"layout": "", "category": "", "raw": None}, "key 'layout' must be there, or else"),
        ({"raw": None}, "key 'filters' must be there only if raw is"),
        ({"layouts": {"lcrec": "Beauty"}}, "key 'layouts' must be other layouts of files"),
        ({"layouts": {"s3rec": ""}}, "key 'layouts' must be .* each with what their names begin"),
        ({"layouts": {"minionerec": "Beauty"}}, "'protocol' must be one of chronological, as min"),
        ({"layouts": {"atomic": "Beauty"}}, "must be called one of minionerec, .*not 'atomic'"),
        ({"sids": None}, "key 'sids' must be there if raw is"),
        ({"raw": None, "sids": None}, "key 'filters' must be there only if raw is"),
        ({"raw": RAW | {"format": "csvs"}}, "'raw.format' must be one of .*; did you mean 'csv'"),
        ({"raw": RAW | {"malformed": 1}}, "key 'raw.malformed' must be a share from 0 to below 1"),
        (interactions(file="a/b"), "key 'raw.interactions.file' must be a plain name"),
        (interactions(file=".."), "key 'raw.interactions.file' must be a plain name"),
        (interactions(url=""), "key 'raw.interactions.url' must be there"),
        (interactions(sha256="12ab"), "key 'raw.interactions.sha256' must be 64 hex"),
        (columns(time_unit="h"), "key 'raw.columns.time_unit' must be one of s, ms, iso"),
        (columns(separator="-" * 9), "key 'raw.columns.separator' must be one character, or up"),
        (columns(separator='"'), "key 'raw.columns.separator' must be one character"),
        (columns(user="item"), "key 'raw.columns' must be other names"),
        ({"filters": [{"step": "score"}]}, "key 'filters.1"),
        ({"filters": [{"step": "window", "since": "2016-13-01"}]}, "key 'filters.1.since"),
        ({"sids": SIDS | {"method": "kmeans"}}, "key 'sids.method' must be one of rq-kmeans, "),
        ({"sids": SIDS | {"collisions": "drop"}}, "key 'sids.collisions' must be one of keep, "),
        ({"raw": RAW, "sids": SIDS}, "'sids.embeddings' must be collaborative or a file .npy, "),
        ({"sids": SIDS | {"seed": -1}}, "key 'sids.seed' must be from 0 to 2147483647"),
        ({"sids": SIDS | {"seed": 2**40}}, "key 'sids.seed' must be from 0 to 2147483647"),
        (
            {"sids": SIDS | {"embeddings": "~no-such-person/x"}},
            "'sids.embeddings': ~no-such-person/x: .*write the",
        ),
        ({"codes_per_level": [4, 10**9]}, "key 'codes_per_level.2' must be from 1 to 65536"),
        ({"category": "../Beauty"}, "key 'category' must be a plain name"),
        ({"category": "/Beauty"}, "key 'category' must be a plain name"),
        ({"layouts": {"s3rec": "a/**"}}, "key 'layouts.s3rec' must be a plain name"),
        ({"history_length": 10**18}, "key 'history_length' must be from 1 to"),
        ({"codes_per_level": []}, "key 'codes_per_level' must be 1 to 26 counts"),
        ({"shared_sids": "random"}, "key 'shared_sids' must be one of popularity, index"),
        ({"expected": {"items": 0, "source": "x"}}, "key 'expected.items' must be at least 1"),
        ({"name": "sids"}, "key 'name' must be none of downloads, embeddings, sft, sids"),
        ({"name": "other"}, "key 'name' must be the name of the file"),
        ({"category": ""}, "key 'category' must be there if files of others are imported"),
        ({"version": 0, "title": 3}, "'version' must be at least 1, not 0; key 'title' must be te"),
    ],
)
def test_a_bad_card_names_file_and_key(own: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{own}/mine.yaml: .*{message}"):
        load(own, content_of() | change)


@pytest.mark.parametrize(
    "value", ["!!bool x", '!!int ""', "!!timestamp x", "!!binary /w==", "!!set {a, b}", "!mine x"]
)
def test_a_card_with_a_tag(own: Path, value: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml: not valid YAML: line 2: leave out '"):
        load(own, f"name: mine\nversion: {value}\n")


def test_a_card_that_is_no_yaml(own: Path) -> None:
    for text in ("a: [", "a: " + "[" * 5000):
        with pytest.raises(UserError, match=r"mine\.yaml: not valid YAML: [^\n]*$"):
            load(own, text)
    with pytest.raises(UserError, match=r"line \d+: the key 'version' is there twice"):
        load(own, (CARDS / "beauty.yaml").read_text() + "version: 2\n")


def test_a_tab_between_columns(own: Path) -> None:
    change = columns(separator="\t") | {"sids": SIDS | {"embeddings": "collaborative"}}
    raw = load(own, content_of() | change).raw
    assert raw is not None and raw.columns.separator == "\t"


def test_a_day_needs_no_quotes(own: Path) -> None:
    step = {"step": "window", "since": date(2016, 1, 1)}
    assert load(own, content_of() | {"filters": [step]}).filters[0].since == "2016-01-01"


def test_vectors_beside_a_card_are_found_from_anywhere(own: Path) -> None:
    for given, meant in (("mine.npy", own / "mine.npy"), ("/a/b.npy", Path("/a/b.npy"))):
        sids = load(own, content_of() | {"sids": SIDS | {"embeddings": given}}).sids
        assert sids is not None and Path(sids.embeddings) == meant


def test_what_is_no_card_among_cards(own: Path) -> None:
    before = card_names()
    (own / "._beauty.yaml").write_bytes(b"\0")
    assert card_names() == before
    (own / "mine.yaml").mkdir()
    with pytest.raises(UserError, match=r"mine\.yaml: is a folder, and a file is needed"):
        load_card("mine")


def test_cards_of_ones_own_stand_beside_the_packages(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(own, content_of()).title == load_card("beauty").title
    assert {"mine", "industrial"} <= set(card_names())
    (own / "broken.yaml").write_text("name: broken")
    with pytest.raises(UserError, match=f"^{own}/broken.yaml: missing key"):
        load_card("broken")
    (own / "yelp.yaml").write_text("name: yelp")
    with pytest.raises(UserError, match=r"yelp\.yaml: there is a card 'yelp' already"):
        load_card("yelp")
    assert load_card("mine").name == "mine"  # no other card is worse off for it
    with pytest.raises(UserError, match=r"your own are NAME\.yaml in the folder \$GENREC_BENCH"):
        load_card("nothing")
    monkeypatch.setenv("GENREC_BENCH_CARDS", str(own / "nowhere"))
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
        (
            {"world": {"feedback": "told"}},
            "'synthetic.world.feedback' must be one of logged, drawn",
        ),
        ({"world": {"hidden_categories": 12}}, "hidden_categories' must be at most 11"),
        ({"world": {"hidden": 0.2}}, "hidden' must be 0 without hidden_categories"),
        ({"world": {"promotion": 0.2}}, "promotion' must be 0 without promoted items"),
        ({"world": {"promoted": 600}}, "promoted' must be fewer than all items"),
        ({"world": {"exposure": 0}}, "exposure' must be above 0, at most 1"),
        ({"qualities": ["large"], "materials": ["oak"]}, "enough for a title"),
    ],
)
def test_bad_synthetic_parameters_are_named(
    own: Path, change: dict[str, Any], message: str
) -> None:
    content = content_of("synthetic")
    content["synthetic"] |= change
    with pytest.raises(UserError, match=message):
        load(own, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "'synthetic.seed' must be from 0 to"),
        ({"users": 10**9}, "'synthetic.users, longest' must be at most 100000000 interactions"),
        ({"longest": 10**12}, "'synthetic.users, longest' must be at most 100000000 interactions"),
        ({"days": 10**9}, "'synthetic.days' must be from 1 to 36525"),
        ({"mean_gap_days": 1e300}, "'synthetic.mean_gap_days' must be above 0, at most 36525"),
        ({"shared_sid_share": 1e308}, "'synthetic.shared_sid_share' must be between 0 and 1"),
        ({"zipf_exponent": -1e308}, "'synthetic.zipf_exponent' must be from 0 to 10"),
    ],
)
def test_what_no_machine_could_draw_is_refused(
    own: Path, change: dict[str, Any], message: str
) -> None:
    content = content_of("synthetic")
    content["synthetic"] |= change
    with pytest.raises(UserError, match=message):
        load(own, content)
