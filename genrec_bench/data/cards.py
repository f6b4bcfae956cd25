"""Dataset cards: what a dataset is, where it comes from, and what it should count."""

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from genrec_bench.data.preparation.raw_recipe import Raw, Step
from genrec_bench.data.sids.sid_recipe import COLLISIONS, METHODS, SIDRecipe
from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.strict_yaml import parse_yaml, read_fields

PROTOCOLS = ("chronological", "leave-one-out")
LAYOUTS = {
    "minionerec": "chronological",
    "lcrec": "leave-one-out",
    "synthetic": "chronological",
}
"""How the examples of each layout are split."""
SHARED_SID_RULES = ("popularity", "index")

MARK = "@"
"""Between a dataset's name and the label of its SIDs."""

RESERVED = ("downloads", "embeddings", "sft", "sids")
"""Folders of the data directory, whatever datasets are called."""

LONGEST_HISTORY = 10_000
"""Items; a prompt holds them all, and no backbone reads more."""

NO_SEPARATORS = '"\r\n\0'
"""Characters that cannot stand between the columns of a table."""

SHA256 = re.compile("[0-9a-fA-F]{64}")

CARDS = "GENREC_BENCH_CARDS"
"""Names a folder of the user's own cards."""


@dataclass(frozen=True)
class Expected:
    """The counts a whole dataset has, and where they are taken from; None where nobody says."""

    source: str
    users: int | None = None
    items: int | None = None
    interactions: int | None = None
    distinct_sids: int | None = None
    train_rows: int | None = None
    valid_rows: int | None = None
    test_rows: int | None = None


@dataclass(frozen=True)
class SyntheticParameters:
    """How the synthetic dataset is drawn; `genrec_bench/data/synthetic.py` tells the story.

    Attributes:
        seed: of the one generator that draws everything.
        users: number of users.
        shortest: fewest interactions of a user.
        longest: most interactions of a user.
        days: length of the period in which users start.
        mean_gap_days: mean time between two interactions of a user.
        items_per_subcategory: items in each subcategory.
        shared_sid_share: share of items that take over the SID of a neighbour.
        zipf_exponent: popularity of the item of rank r is proportional to r ** -zipf_exponent.
        recency_decay: weight of a history item falls by this factor for each step back.
        link_weights: probabilities of the successors of an item, summing to 1.
        follow_weights: probabilities of the follow-up subcategories, summing to 1.
        repeat: probability that the next item repeats one of the history.
        link: probability of a successor of the last item.
        follow: probability of an item of a follow-up subcategory.
        same_category: probability of an item of the last item's category.
        noise: probability of any item; the five probabilities sum to 1.
        categories: subcategory nouns by category, as many for each.
        qualities: first words of titles.
        materials: second words of titles.
    """

    seed: int
    users: int
    shortest: int
    longest: int
    days: int
    mean_gap_days: float
    items_per_subcategory: int
    shared_sid_share: float
    zipf_exponent: float
    recency_decay: float
    link_weights: tuple[float, ...]
    follow_weights: tuple[float, ...]
    repeat: float
    link: float
    follow: float
    same_category: float
    noise: float
    categories: Mapping[str, tuple[str, ...]]
    qualities: tuple[str, ...]
    materials: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """One dataset card.

    Attributes:
        name: the name on the command line and of the file.
        version: rises when anything that changes the prepared data changes.
        title: one line for tables.
        description: what the data are, filters included.
        source: who publishes them, and where they are described.
        protocol: how examples are split, one of `PROTOCOLS`.
        history_length: most items in a history; the last ones are kept.
        codes_per_level: codes available on each SID level, but for a level that `sids` adds.
        shared_sids: order of items that share a SID, one of `SHARED_SID_RULES`.
        expected: counts of the whole dataset.
        supersedes: which earlier version or card it takes the place of, and why; "" for none.
        layout: layout of prepared files that others publish, a key of `LAYOUTS`; "" for none.
        category: how the names of these files start; "" where nothing is imported.
        sha256: checksums of these files, known to be whole, by path in the source folder.
        raw: the raw files that it can be made from; None for none.
        filters: what is done to them, in this order.
        sids: how SIDs are made where the files bring none.
        synthetic: parameters of the generator, on a card of that layout only.
    """

    name: str
    version: int
    title: str
    description: str
    source: str
    protocol: str
    history_length: int
    codes_per_level: tuple[int, ...]
    shared_sids: str
    expected: Expected
    supersedes: str = ""
    layout: str = ""
    category: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)
    raw: Raw | None = None
    filters: tuple[Step, ...] = ()
    sids: SIDRecipe | None = None
    synthetic: SyntheticParameters | None = None

    @property
    def num_levels(self) -> int:
        """L, the number of codes in a SID."""
        return len(self.codes_per_level)


def card_names(directory: Traversable | None = None) -> list[str]:
    """Return the names of all cards, sorted; see `load_card` for the folder and what it raises."""
    return sorted(_found(directory))


def load_card(name: str, directory: Traversable | None = None) -> Card:
    """Read and check the card `name`.

    Args:
        name: the card's name.
        directory: folder of cards; None for the package's own, and beside them those in the folder
            that the environment variable `CARDS` names.

    Raises:
        UserError: no such card (names the nearest one), two of one name, or a card that is not as
            it should be (names file and key).
    """
    found = _found(directory)
    if name not in found:
        raise UserError(
            f"unknown dataset {name!r}{nearest(name, found)}; the datasets are "
            f"{', '.join(sorted(found))}; cards of your own are NAME.yaml in the folder ${CARDS}"
        )
    file, *others = found[name]
    if others:
        raise UserError(f"{others[0]}: there is a card {name!r} already; name it otherwise")
    where = card_place(name, directory)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8: {error}") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    card = read_fields(Card, parse_yaml(text, where), where)
    if card.name != name:
        raise UserError(f"{where}: key 'name' must be the name of the file")
    _check(card, where)
    if card.sids is not None:
        source = Path(str(file)).parent / Path(card.sids.embeddings).expanduser()
        if source.suffix == ".npy" or source.is_dir():
            return replace(card, sids=replace(card.sids, embeddings=str(source.resolve())))
    return card


def card_place(name: str, directory: Traversable | None = None) -> str:
    """Return what messages call the file of a card: the path, or its place in the package.

    Args:
        name: the card's name.
        directory: see `load_card`.
    """
    if (_packaged(directory) / f"{name}.yaml").is_file():
        return f"datasets/{name}.yaml"
    return str(Path(os.environ.get(CARDS, "")).expanduser() / f"{name}.yaml")


def _packaged(directory: Traversable | None) -> Traversable:
    return directory or files("genrec_bench") / "datasets"


def _found(directory: Traversable | None) -> dict[str, list[Traversable]]:
    """Return the files of every card by its name: one, unless a card of one's own has a taken name.

    That is no reason to refuse other cards, so that nothing is said of it here.
    """
    folders: list[Traversable] = [_packaged(directory)]
    own = os.environ.get(CARDS)
    if directory is None and own:
        if not Path(own).expanduser().is_dir():
            raise UserError(f"${CARDS} is {own}, which is no folder")
        folders.append(Path(own).expanduser())
    found: dict[str, list[Traversable]] = {}
    for folder in folders:
        for entry in folder.iterdir():
            name = entry.name.removesuffix(".yaml")
            if name == entry.name or name.startswith("."):
                continue  # no card, or what an editor or a system keeps beside one
            found.setdefault(name, []).append(entry)
    return found


def _check(card: Card, where: str) -> None:
    """Raise UserError where a value is outside its range."""

    def require(condition: bool, key: str, what: str) -> None:
        if not condition:
            raise UserError(f"{where}: key {key!r} must be {what}")

    def one_of(key: str, value: str, choices: Iterable[str]) -> None:
        require(value in choices, key, f"one of {', '.join(choices)}, not {value!r}")

    taken = card.name in RESERVED or MARK in card.name
    require(not taken, "name", f"none of {', '.join(RESERVED)}, and without {MARK!r}")
    require(bool(card.layout) or card.raw is not None, "layout", "there, or else the key 'raw'")
    if card.layout:
        one_of("layout", card.layout, LAYOUTS)
        one_of("protocol", card.protocol, [LAYOUTS[card.layout]])
    one_of("protocol", card.protocol, PROTOCOLS)
    one_of("shared_sids", card.shared_sids, SHARED_SID_RULES)
    require(card.version >= 1, "version", "at least 1")
    longest = f"from 1 to {LONGEST_HISTORY}"
    require(1 <= card.history_length <= LONGEST_HISTORY, "history_length", longest)
    codes = card.codes_per_level
    # Levels are named by one letter each in the source files.
    require(1 <= len(codes) <= 26 and min(codes) >= 1, "codes_per_level", "1 to 26 positive counts")
    counts = [n for n in dataclasses.astuple(card.expected) if isinstance(n, int)]
    require(min(counts, default=1) >= 1, "expected", "positive counts")
    synthetic = card.layout == "synthetic"
    require((card.synthetic is not None) == synthetic, "synthetic", "there if layout is synthetic")
    imported = bool(card.layout) and not synthetic
    require(bool(card.category) == imported, "category", "there if files of others are imported")
    require((card.sids is not None) == (card.raw is not None), "sids", "there if raw is")
    if card.raw is not None:
        _check_raw(card, card.raw, where, require)
    else:
        require(not card.filters, "filters", "there only if raw is")
    if card.sids is not None:
        source = card.sids.embeddings
        texts = source != "collaborative" and not source.endswith(".npy")
        had = card.raw is None or card.raw.items is not None or not texts
        missing = "collaborative or a file .npy, as there is no key 'raw.items'"
        require(had, "sids.embeddings", missing)
        one_of("sids.method", card.sids.method, METHODS)
        one_of("sids.collisions", card.sids.collisions, COLLISIONS)
        require(card.sids.seed >= 0, "sids.seed", "at least 0")
    if card.synthetic is not None:
        _check_synthetic(card.synthetic, codes, require)


def _check_raw(card: Card, raw: Raw, where: str, require: Any) -> None:
    from genrec_bench.data.preparation.filters import check_steps
    from genrec_bench.data.preparation.formats import FORMATS

    require(raw.format in FORMATS, "raw.format", f"one of {', '.join(FORMATS)}, not {raw.format!r}")
    require(0 <= raw.malformed < 1, "raw.malformed", "a share from 0 to below 1")
    units = ("s", "ms", "iso")
    require(raw.columns.time_unit in units, "raw.columns.time_unit", f"one of {', '.join(units)}")
    separator = raw.columns.separator
    one = len(separator) == 1 and separator not in NO_SEPARATORS
    require(one, "raw.columns.separator", f"one character, not {separator!r}")
    columns = (raw.columns.user, raw.columns.item, raw.columns.time)
    require(len(set(columns)) == 3, "raw.columns", "other names for user, item and time each")
    for key, file in (("interactions", raw.interactions), ("items", raw.items)):
        if file is not None:
            name = file.file
            is_name = name not in ("", ".", "..") and "/" not in name
            require(is_name, f"raw.{key}.file", "a file's name")
            require(bool(file.url or raw.how), f"raw.{key}.url", "there, or else the key 'raw.how'")
            checksum = SHA256.fullmatch(file.sha256 or "0" * 64)
            require(checksum is not None, f"raw.{key}.sha256", "64 hexadecimal digits")
    check_steps(card.filters, where)


def _check_synthetic(p: SyntheticParameters, codes: tuple[int, ...], require: Any) -> None:
    parts = (p.repeat, p.link, p.follow, p.same_category, p.noise)
    require(
        min(parts) >= 0 and math.isclose(sum(parts), 1),
        "synthetic.repeat, link, follow, same_category, noise",
        "probabilities that sum to 1",
    )
    for key, weights in (("link_weights", p.link_weights), ("follow_weights", p.follow_weights)):
        good = bool(weights) and min(weights) > 0 and math.isclose(sum(weights), 1)
        require(good, f"synthetic.{key}", "positive and sum to 1")
    sizes = {len(nouns) for nouns in p.categories.values()}
    require(len(sizes) == 1, "synthetic.categories", "lists of one length")
    shape = (len(p.categories), min(sizes, default=0), p.items_per_subcategory)
    fits = len(codes) == 3 and all(1 <= n <= k for n, k in zip(shape, codes, strict=True))
    require(fits, "codes_per_level", f"at least {shape}: categories, subcategories, items")
    require(2 <= p.shortest <= p.longest, "synthetic.shortest", "from 2 to longest")
    require(min(p.users, p.days) >= 1, "synthetic.users, days", "at least 1")
    require(p.mean_gap_days > 0, "synthetic.mean_gap_days", "positive")
    items = shape[0] * shape[1] * shape[2]
    pairs = shape[0] * shape[1] * (shape[2] // 2)
    require(
        0 <= round(p.shared_sid_share * items) <= pairs, "synthetic.shared_sid_share", "0 to 0.5"
    )
    require(0 < p.recency_decay <= 1, "synthetic.recency_decay", "above 0, at most 1")
    titles = len(p.qualities) * len(p.materials)
    require(
        titles >= p.items_per_subcategory,
        "synthetic.qualities, materials",
        "enough for a title of its own for each item of a subcategory",
    )
    require(
        len(p.link_weights) < items and len(p.follow_weights) < shape[0] * shape[1],
        "synthetic.link_weights, follow_weights",
        "fewer than the items and the subcategories",
    )
