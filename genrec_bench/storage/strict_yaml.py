"""YAML files that people write; `validation` checks what they hold."""

from typing import Any

import yaml

from genrec_bench.errors import UserError
from genrec_bench.storage.bounded_json import oddity

MERGE, TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
DAY = "tag:yaml.org,2002:timestamp"

MOST_CHARACTERS = 2**20
"""Of a file that people write."""


def parse_yaml(text: str, where: str) -> object:
    """Return what a file's text says: mappings, lists, texts, numbers and truth values.

    Raises:
        UserError: it is no YAML, or says a key twice; names `where`, the file.
    """
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"{where}: not valid YAML: longer than {MOST_CHARACTERS:,} characters")
    try:
        content: object = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        raise UserError(f"{where}: is empty")
    # Whoever checks the keys says which number is not finite.
    if odd := oddity(content, constants=True):
        raise UserError(f"{where}: not valid YAML: {odd}")
    return content


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, where YAML takes the last; a day is a text like others."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != DAY]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Refuse aliases and tags: a few lines of aliases stand for more than a machine holds."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"line {line}: write it out: aliases (*) are not read")
        if getattr(event, "tag", None) is not None:
            # Whoever needs none can have none that does not fit its value, or that is bytes.
            raise yaml.YAMLError(f"line {line}: leave out {event.tag!r}: tags (!) are not read")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"line {line}: the key {key.value!r} is there twice")
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """Drop blanks at the ends, unless there are none but blanks: a tab may be a separator."""
        text = str(self.construct_scalar(node))
        return text.strip() or text


_Loader.add_constructor(TEXT, _Loader.construct_text)
