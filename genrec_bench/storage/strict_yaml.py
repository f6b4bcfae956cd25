"""YAML files that people write; `validation` checks what they hold."""

from typing import Any

import yaml

from genrec_bench.errors import UserError

MERGE, TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
DAY = "tag:yaml.org,2002:timestamp"


def parse_yaml(text: str, where: str) -> object:
    """Return what a file's text says: mappings, lists, texts, numbers and truth values.

    Raises:
        UserError: it is no YAML, or says a key twice; names `where`, the file.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, where YAML takes the last; a day is a text like others."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != DAY]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

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
