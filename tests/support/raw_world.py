"""The package's own cards over a small world: their raw files, served here in place of the source.

A card stays as it is but for what only the whole data can have: its counts, so many codes on each
level, and the place where files are fetched from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_server import LocalServer, local_server
from raw_files import WRITERS, Log, content_of, write, write_raw_files

from genrec_bench.data import cards
from genrec_bench.data.cards import Card, card_names, load_card

USERS, ITEMS, EACH, CODES = 60, 30, 8, 8
ROWS = {"chronological": (336, 42, 42), "leave-one-out": (300, 60, 60)}
"""Of train, valid and test. 60 users have 7 examples each, cut 8:1:1; or 5, 1 and 1."""

MATERIALS = ("steel", "oak", "bamboo", "copper", "nylon", "glass")
NOUNS = ("rake", "kettle", "stapler", "tuner", "lantern")
NAMES = [f"B{item:03d}" for item in range(ITEMS)]
TEXTS = {
    name: (f"{MATERIALS[i % 6]} {NOUNS[i // 6]}", f"A {NOUNS[i // 6]} of {MATERIALS[i % 6]}.")
    for i, name in enumerate(NAMES)
}
RAW_CARDS = [name for name in card_names() if load_card(name).raw is not None]


def world_log(card: Card, users: int = USERS) -> Log:
    """Users go from item to item in the period of the card, mostly to the next one."""
    first = first_day(card)
    draw = random.Random(0)
    rows = []
    for user in range(users):
        item, day = user % ITEMS, draw.randrange(60)
        for _ in range(EACH):
            rows.append((f"A{user:03d}", NAMES[item], first + timedelta(days=day)))
            item = (item + 1 if draw.random() < 0.8 else draw.randrange(ITEMS)) % ITEMS
            day += draw.randrange(1, 10)
    return [(user, item, int(when.timestamp())) for user, item, when in rows]


def strays(card: Card) -> Log:
    """Interactions that the card's filters drop: before the period, and of a user with too few."""
    found, first = [], first_day(card)
    if any(step.since for step in card.filters):
        found.append(("A000", NAMES[0], first - timedelta(days=3)))
    if any(step.step == "core" for step in card.filters):
        found += [("A999", item, first) for item in ("B999", *NAMES[:3])]
    return [(user, item, int(when.timestamp())) for user, item, when in found]


def first_day(card: Card) -> datetime:
    """The second day of the card's period."""
    since = next((step.since for step in card.filters if step.since), "2018-05-01")
    return datetime.fromisoformat(since).replace(tzinfo=UTC) + timedelta(days=1)


def world_counts(protocol: str) -> dict[str, int]:
    """What a card of the world should say."""
    rows = zip(("train_rows", "valid_rows", "test_rows"), ROWS[protocol], strict=True)
    return {"users": USERS, "items": ITEMS, "interactions": USERS * EACH, **dict(rows)}


@dataclass
class RawWorld:
    """One dataset that can be made from nothing, and a data directory.

    Its raw files, interactions and items, have the names that they are published with; there are no
    servers of them where no program may fetch them.
    """

    name: str
    root: Path
    files: tuple[Path, Path]
    servers: list[LocalServer] = field(default_factory=list)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.root / "data"

    @property
    def card(self) -> Card:
        """Its card, as it is now."""
        return load_card(self.name)

    @property
    def requests(self) -> int:
        """How often something was fetched."""
        return sum(len(server.seen) for server in self.servers)

    @property
    def given(self) -> list[str]:
        """The words that hand in its files."""
        interactions, items = self.files
        return ["--reviews", str(interactions), "--metadata", str(items)]

    def change_card(self, **changes: Any) -> None:
        """Set keys of its card."""
        file = cards_folder(self.root) / f"{self.name}.yaml"
        write_card(file, yaml.safe_load(file.read_text()) | changes)

    def write_files(self, users: int = USERS, shuffle: int | None = None) -> None:
        """Write its raw files anew: with other users, or lines in another order."""
        raw = self.card.raw
        assert raw is not None and raw.items is not None
        folder = self.root / "raw"
        folder.mkdir(parents=True, exist_ok=True)
        log = [*strays(self.card), *world_log(self.card, users)]
        ratings = ".csv" in raw.interactions.file and WRITERS[raw.format].ratings is not None
        written = write_raw_files(raw.format, folder, log, TEXTS, ratings=ratings, shuffle=shuffle)
        for mine, file in zip((written.interactions, written.items), self.files, strict=True):
            write(file, content_of(mine))

    def publish(self, data: Path | None = None) -> None:
        """Have its files where they are looked for: `data` is where a person has put them."""
        if not self.servers:
            folder = (data or self.data) / "downloads" / self.name
            folder.mkdir(parents=True, exist_ok=True)
            for file in self.files:
                (folder / file.name).write_bytes(file.read_bytes())
        for server, file in zip(self.servers, self.files, strict=False):
            server.content = file.read_bytes()


def cards_folder(root: Path) -> Path:
    """The folder of cards that takes the place of the package's."""
    return root / "package" / "datasets"


def write_card(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def use_cards(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Have every module read the cards under `root`."""
    patch.setattr(cards, "files", lambda package: cards_folder(root).parent)


@contextmanager
def raw_world(name: str, root: Path, *, figures: bool = False) -> Iterator[RawWorld]:
    """Serve the raw files of a card, and have all cards read that lead there.

    Without ``figures`` those of SIDs are not drawn, which takes longer than all else.
    """
    folder = cards_folder(root)
    folder.mkdir(parents=True)
    for entry in (package_files("genrec_bench") / "datasets").iterdir():
        (folder / entry.name).write_bytes(entry.read_bytes())
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        use_cards(patch, root)
        if not figures:
            patch.setattr("genrec_bench.data.sids.build.quality_png", lambda *words: None)
        card = load_card(name)
        assert card.raw is not None and card.raw.items is not None
        given = root / "given"
        given.mkdir()
        published = (given / card.raw.interactions.file, given / card.raw.items.file)
        world = RawWorld(name, root, published)
        raw: dict[str, Any] = yaml.safe_load((folder / f"{name}.yaml").read_text())["raw"]
        world.write_files()
        for key, file in zip(("interactions", "items"), published, strict=True):
            if raw[key].get("url"):
                server = stack.enter_context(local_server(file.read_bytes()))
                world.servers.append(server)
                raw[key] = {"file": file.name, "url": f"{server.url}/{file.name}"}
        expected = {"source": "By hand."} | world_counts(card.protocol)
        codes = [CODES] * card.num_levels
        world.change_card(raw=raw, expected=expected, codes_per_level=codes)
        yield world
