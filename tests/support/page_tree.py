"""A page of HTML as a tree, with what tests ask of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from genrec_bench.boards.board import Board, Section
from genrec_bench.boards.html_page import to_html

VOID = {"meta", "link"}


@dataclass
class Node:
    """An element of a page."""

    name: str
    attributes: dict[str, str | None]
    children: list["Node | str"] = field(default_factory=list)

    def all(self, name: str, **attributes: str) -> list["Node"]:
        return [
            node
            for node in self.walk()
            if node.name == name
            and all(
                value in (node.attributes.get(key.rstrip("_").replace("_", "-")) or "").split()
                for key, value in attributes.items()
            )
        ]

    def one(self, name: str, **attributes: str) -> "Node":
        (found,) = self.all(name, **attributes)
        return found

    def walk(self) -> Iterator["Node"]:
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child.walk()

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def shown(self) -> str:
        """The text without drawings, whose titles say the same again."""
        return "".join(
            c if isinstance(c, str) else "" if c.name == "svg" else c.shown for c in self.children
        )


class Parser(HTMLParser):
    """Builds a tree, and insists that what is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of <{tag}> is given twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Node:
    parser = Parser()
    parser.feed(page)
    parser.close()
    assert parser.open == [parser.root], "an element is not closed"
    return parser.root


def page_of(*sections: Section) -> Node:
    """The page of a board of some sections."""
    return parse(to_html(Board("industrial", sections, ())))


def first_track(page: Node) -> Node:
    (found,) = (n for n in page.all("section") if n.attributes.get("id") == "track-1")
    return found


def table(section: Node, label: str) -> dict[str, list[Node]]:
    """A table's cells by the name of their line."""
    lines = _box(section, label).one("tbody").all("tr")
    found = {str(line.one("th").attributes["data-sort"]): line.all("td") for line in lines}
    assert len(found) == len(lines)
    return found


def heads(section: Node, label: str) -> list[str]:
    titles = _box(section, label).one("thead").all("span", class_="title")
    return [title.text for title in titles]


def _box(section: Node, label: str) -> Node:
    (box,) = (node for node in section.all("div") if node.attributes.get("aria-label") == label)
    return box
