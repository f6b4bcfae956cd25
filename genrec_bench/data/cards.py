"""Dataset cards: what a dataset is, where it comes from, and what it should count."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from genrec_bench.data.preparation.raw_recipe import Raw, Step, check_steps
from genrec_bench.data.sids.sid_recipe import MOST_CODES, MOST_SEED, SIDRecipe
from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.folders import at_home
from genrec_bench.storage.strict_yaml import parse_yaml
from genrec_bench.storage.text_files import read_text
from genrec_bench.storage.validation import (
    Must,
    PlainName,
    at_least,
    is_plain_name,
    one_of,
    require,
    validated,
)

PROTOCOLS = ("chronological", "leave-one-out")
SYNTHETIC = "synthetic"
LAYOUTS = {
    "minionerec": "chronological",
    "mimigenrec": "chronological",
    "lcrec": "leave-one-out",
    "s3rec": "leave-one-out",
    "bert4rec": "leave-one-out",
    "recbole": "",
    SYNTHETIC: "chronological",
}
"""How the examples of each layout are split; "" where its files may be split in any way."""
SHARED_SID_RULES = ("popularity", "index")

MARK = "@"
"""Between a dataset's name and the label of its SIDs."""

RESERVED = ("downloads", "embeddings", "sft", "sids")
"""Folders of the data directory; no dataset may have such a name."""

LONGEST_HISTORY = 10_000
"""Items; a prompt holds them all, and no backbone reads more."""

CARDS = "GENREC_BENCH_CARDS"
"""Names a folder of the user's own cards."""

MOST_DRAWN, MOST_DRAWN_ITEMS = 100_000_000, 20_000
"""Interactions and items of a synthetic dataset; its model has a number for each pair of items."""

CENTURY = 36_525
"""Days."""

Count = Annotated[int, at_least(1)]
Codes = Annotated[int, Must(lambda count: 1 <= count <= MOST_CODES, f"from 1 to {MOST_CODES}")]
HistoryLength = Annotated[
    int, Must(lambda length: 1 <= length <= LONGEST_HISTORY, f"from 1 to {LONGEST_HISTORY}")
]
Days = Annotated[float, Must(lambda days: 0 < days <= CENTURY, f"above 0, at most {CENTURY}")]
Probability = Annotated[float, Must(lambda value: 0 <= value <= 1, "between 0 and 1")]
Weights = Annotated[
    tuple[float, ...],
    Must(
        lambda weights: weights and min(weights) > 0 and math.isclose(sum(weights), 1),
        "positive and sum to 1",
    ),
]


@dataclass(frozen=True)
class Expected:
    """The counts a whole dataset has, and where they are taken from; None where nobody says."""

    source: str
    users: Count | None = None
    items: Count | None = None
    interactions: Count | None = None
    distinct_sids: Count | None = None
    train_rows: Count | None = None
    valid_rows: Count | None = None
    test_rows: Count | None = None


Category = Annotated[
    str, Must(lambda text: not text or is_plain_name(text), "a plain name, without a folder")
]
"""What names of files begin with; "" for nothing."""

FEEDBACK = ("logged", "drawn")
"""What an algorithm that rolls out learns from: the logged target, or a purchase drawn anew."""


@dataclass(frozen=True)
class WorldParameters:
    """How the log of a world differs from what its users want; `synthetic.py` tells the story.

    Attributes:
        feedback: what algorithms that roll out are given as the target; one of `FEEDBACK`.
        hidden_categories: the last categories of the card, whose items are logged rarely.
        hidden: probability that a user wants the one item of these that belongs to the
            subcategory of the last item.
        exposure: how often an item of these is logged, relative to one of the others.
        misled: share of items after which the log is misled.
        wrong: probability that what is logged after such an item is not what the user wanted, but
            one other item, always the same.
        promoted: number of items that are promoted.
        promotion: probability that one of these is logged, whatever the user wanted.
    """

    feedback: Annotated[str, one_of(FEEDBACK)] = "drawn"
    hidden_categories: Annotated[int, at_least(0)] = 0
    hidden: Probability = 0.0
    exposure: Annotated[float, Must(lambda share: 0 < share <= 1, "above 0, at most 1")] = 1.0
    misled: Probability = 0.0
    wrong: Annotated[float, Must(lambda share: 0 <= share < 1, "at least 0, below 1")] = 0.0
    promoted: Annotated[int, at_least(0)] = 0
    promotion: Annotated[float, Must(lambda share: 0 <= share < 1, "at least 0, below 1")] = 0.0


@dataclass(frozen=True)
class SyntheticParameters:
    """How the synthetic dataset is drawn; `genrec_bench/data/synthetic.py` tells the story.

    Attributes:
        shortest: fewest interactions of a user; `longest`: the most.
        days: length of the period in which users start.
        mean_gap_days: mean time between two interactions of a user.
        shared_sid_share: share of items that take over the SID of a neighbour.
        zipf_exponent: popularity of the item of rank r is proportional to r ** -zipf_exponent.
        recency_decay: weight of a history item falls by this factor for each step back.
        link_weights: probabilities of the successors of an item.
        follow_weights: probabilities of the follow-up subcategories.
        repeat: like `link`, `follow`, `same_category` and `noise`, the probability of one of the
            five ways to choose the next item; they sum to 1.
        categories: subcategory nouns by category, as many for each.
        qualities: first words of titles; `materials`: second words.
        world: how the log differs from what users want; None: in nothing.
    """

    seed: Annotated[int, Must(lambda seed: 0 <= seed <= MOST_SEED, f"from 0 to {MOST_SEED}")]
    users: Count
    shortest: Annotated[int, at_least(2)]
    longest: int
    days: Annotated[int, Must(lambda days: 1 <= days <= CENTURY, f"from 1 to {CENTURY}")]
    mean_gap_days: Days
    items_per_subcategory: Count
    shared_sid_share: Probability
    zipf_exponent: Annotated[float, Must(lambda power: 0 <= power <= 10, "from 0 to 10")]
    recency_decay: Annotated[float, Must(lambda decay: 0 < decay <= 1, "above 0, at most 1")]
    link_weights: Weights
    follow_weights: Weights
    repeat: Probability
    link: Probability
    follow: Probability
    same_category: Probability
    noise: Probability
    categories: Mapping[str, tuple[str, ...]]
    qualities: tuple[str, ...]
    materials: tuple[str, ...]
    world: WorldParameters | None = None


@dataclass(frozen=True)
class Card:
    """One dataset card.

    Attributes:
        version: rises when anything that changes the prepared data changes.
        source: who publishes them, and where they are described.
        history_length: most items in a history; the last ones are kept.
        codes_per_level: codes available on each SID level, but for a level that `sids` adds.
        shared_sids: order of items that share a SID.
        supersedes: which earlier version or card it takes the place of, and why; "" for none.
        layout: of prepared files that others publish; "" for none.
        category: how the names of these files start; "" where nothing is imported.
        layouts: further layouts of the same data, each with what the names of its files start with.
        sha256: checksums of these files, known to be whole, by path in the source folder.
        filters: what is done to the raw files, in this order.
        sids: how SIDs are made where the files bring none.
        synthetic: parameters of the generator, on a card of that layout only.
    """

    name: Annotated[
        PlainName,
        Must(
            lambda name: name not in RESERVED and MARK not in name,
            f"none of {', '.join(RESERVED)}, and without {MARK!r}",
        ),
    ]
    version: Annotated[int, at_least(1)]
    title: str
    description: str
    source: str
    protocol: Annotated[str, one_of(PROTOCOLS)]
    history_length: HistoryLength
    # Source files name each level by one letter.
    codes_per_level: Annotated[
        tuple[Codes, ...], Must(lambda codes: 1 <= len(codes) <= 26, "1 to 26 counts")
    ]
    shared_sids: Annotated[str, one_of(SHARED_SID_RULES)]
    expected: Expected
    supersedes: str = ""
    layout: Annotated[str, one_of(("", *LAYOUTS))] = ""
    category: Category = ""
    layouts: Mapping[Annotated[str, one_of(LAYOUTS)], Category] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    raw: Raw | None = None
    filters: tuple[Step, ...] = ()
    sids: SIDRecipe | None = None
    synthetic: SyntheticParameters | None = None

    @property
    def num_levels(self) -> int:
        """L, the number of codes in a SID."""
        return len(self.codes_per_level)

    @property
    def imports(self) -> dict[str, str]:
        """The layouts that can be imported, and what the names of their files start with."""
        own = {self.layout: self.category} if self.category else {}
        return own | dict(self.layouts)


def card_names() -> list[str]:
    """Return the names of all cards, sorted."""
    return sorted(_found())


def load_card(name: str) -> Card:
    """Read and check a card: of the package, or in the folder that the variable `CARDS` names.

    Raises:
        UserError: no such card (names the nearest one), two of one name, or a card that is not as
            it should be (names file and key).
    """
    found = _found()
    if name not in found:
        raise UserError(
            f"unknown dataset {name!r}{nearest(name, found)}; the datasets are "
            f"{', '.join(sorted(found))}; cards of your own are NAME.yaml in the folder ${CARDS}"
        )
    file, *others = found[name]
    if others:
        raise UserError(f"{others[0]}: there is a card {name!r} already; name it otherwise")
    where = card_place(name)
    text = read_text(file, where)
    card = validated(Card, parse_yaml(text, where), where)
    if card.name != name:
        raise UserError(f"{where}: key 'name' must be the name of the file")
    _check(card, where)
    if card.sids is not None:
        asked = f"{where}: key 'sids.embeddings'"
        source = Path(str(file)).parent / at_home(card.sids.embeddings, asked)
        if source.suffix == ".npy" or source.is_dir():
            return replace(card, sids=replace(card.sids, embeddings=str(source.resolve())))
    return card


def card_place(name: str) -> str:
    """Return what messages call the file of a card: the path, or its place in the package."""
    if (files("genrec_bench") / "datasets" / f"{name}.yaml").is_file():
        return f"datasets/{name}.yaml"
    return str(at_home(os.environ.get(CARDS, ""), f"${CARDS}") / f"{name}.yaml")


def _found() -> dict[str, list[Traversable]]:
    """Return the files of every card by its name: two if the user has one of the same name."""
    folders: list[Traversable] = [files("genrec_bench") / "datasets"]
    if own := os.environ.get(CARDS):
        mine = at_home(own, f"${CARDS}")
        if not mine.is_dir():
            raise UserError(f"${CARDS} is {own}, which is no folder")
        folders.append(mine)
    found: dict[str, list[Traversable]] = {}
    for folder in folders:
        for entry in folder.iterdir():
            name = entry.name.removesuffix(".yaml")
            # Editors and systems keep hidden files beside a card.
            if name != entry.name and not name.startswith("."):
                found.setdefault(name, []).append(entry)
    return found


def _check(card: Card, where: str) -> None:
    """Raise UserError where keys do not fit each other."""
    raw, sids = card.raw, card.sids
    require(card.layout or raw is not None, where, "layout", "there, or else the key 'raw'")
    for layout in filter(None, (card.layout, *card.layouts)):
        split = LAYOUTS[layout] or card.protocol
        require(card.protocol == split, where, "protocol", f"one of {split}, as {layout} asks")
    synthetic = card.layout == SYNTHETIC
    only = "there if layout is synthetic"
    require((card.synthetic is not None) == synthetic, where, "synthetic", only)
    imported, others = bool(card.layout) and not synthetic, "there if files of others are imported"
    require(bool(card.category) == imported, where, "category", others)
    beside = imported and card.layout not in card.layouts and all(card.layouts.values())
    more = "other layouts of files than 'layout', each with what their names begin with"
    require(not card.layouts or (beside and SYNTHETIC not in card.layouts), where, "layouts", more)
    require(sids is not None or raw is None, where, "sids", "there if raw is")
    require(sids is None or raw is not None or imported, where, "sids", "there only if raw is")
    require(not card.filters or raw is not None, where, "filters", "there only if raw is")
    if raw is not None and sids is not None:
        _check_raw(raw, sids.embeddings, where)
        check_steps(card.filters, where)
    if card.synthetic is not None:
        _check_synthetic(card.synthetic, card.codes_per_level, where)


def _check_raw(raw: Raw, embeddings: str, where: str) -> None:
    from genrec_bench.data.preparation.formats import FORMATS

    known = f"one of {', '.join(FORMATS)}, not {raw.format!r}{nearest(raw.format, FORMATS)}"
    require(raw.format in FORMATS, where, "raw.format", known)
    columns = {raw.columns.user, raw.columns.item, raw.columns.time}
    require(len(columns) == 3, where, "raw.columns", "other names for user, item and time each")
    rated = raw.least_rating is None or raw.format != "csv" or raw.columns.rating
    require(rated, where, "raw.columns.rating", "there, as 'raw.least_rating' is")
    for key, file in (("interactions", raw.interactions), ("items", raw.items)):
        found = file is None or file.url or raw.how
        require(found, where, f"raw.{key}.url", "there, or else the key 'raw.how'")
    textless = embeddings == "collaborative" or embeddings.endswith(".npy")
    missing = "collaborative or a file .npy, as there is no key 'raw.items'"
    require(raw.items is not None or textless, where, "sids.embeddings", missing)


def _check_synthetic(p: SyntheticParameters, codes: tuple[int, ...], where: str) -> None:
    whole = math.isclose(p.repeat + p.link + p.follow + p.same_category + p.noise, 1)
    keys = "synthetic.repeat, link, follow, same_category, noise"
    require(whole, where, keys, "probabilities that sum to 1")
    require(p.shortest <= p.longest, where, "synthetic.shortest", "at most longest")
    sizes = {len(nouns) for nouns in p.categories.values()}
    require(len(sizes) == 1, where, "synthetic.categories", "lists of one length")
    shape = (len(p.categories), min(sizes), p.items_per_subcategory)
    fits = len(codes) == 3 and all(1 <= n <= k for n, k in zip(shape, codes, strict=True))
    require(fits, where, "codes_per_level", f"at least {shape}: categories, subcategories, items")
    items, subcategories = math.prod(shape), shape[0] * shape[1]
    require(items <= MOST_DRAWN_ITEMS, where, "synthetic", f"of at most {MOST_DRAWN_ITEMS} items")
    drawn = p.users * p.longest <= MOST_DRAWN
    require(drawn, where, "synthetic.users, longest", f"at most {MOST_DRAWN} interactions together")
    shared = 0 <= round(p.shared_sid_share * items) <= subcategories * (shape[2] // 2)
    require(shared, where, "synthetic.shared_sid_share", "0 to 0.5")
    titles = len(p.qualities) * len(p.materials) >= p.items_per_subcategory
    enough = "enough for a title of its own for each item of a subcategory"
    require(titles, where, "synthetic.qualities, materials", enough)
    fewer = len(p.link_weights) < items and len(p.follow_weights) < subcategories
    both = "synthetic.link_weights, follow_weights"
    require(fewer, where, both, "fewer than the items and the subcategories")
    if p.world is not None:
        most = shape[0] - 1
        some = p.world.hidden_categories <= most
        require(some, where, "synthetic.world.hidden_categories", f"at most {most}")
        needs = p.world.hidden_categories > 0 or p.world.hidden == 0
        require(needs, where, "synthetic.world.hidden", "0 without hidden_categories")
        fewer = p.world.promoted < items
        require(fewer, where, "synthetic.world.promoted", "fewer than all items")
        needs = p.world.promoted > 0 or p.world.promotion == 0
        require(needs, where, "synthetic.world.promotion", "0 without promoted items")
