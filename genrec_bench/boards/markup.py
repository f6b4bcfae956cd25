"""HTML that is put together from elements, so that no text from a record is ever taken for markup.

What is a `Markup` goes into a page as it is; any other string is escaped. A `Markup` is made by
`element` and `fragment` alone, and joining it with a plain string gives a plain string: forgetting
to build an element shows tags on the page and can't run them.
"""

from html import escape

Attribute = str | float | bool | None


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: Attribute) -> Markup:
    """Make an element.

    Args:
        name: of the element.
        children: what is inside, in order; escaped unless it is `Markup`.
        attributes: their values are escaped; None and False leave one out, True gives it no value.
            An underscore at the end of a name is dropped (`class_`), any other is a hyphen.
    """
    parts = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{escape(_clean(str(value)))}"')
    return Markup(f"<{' '.join(parts)}>{fragment(*children)}</{name}>")


def fragment(*children: str) -> Markup:
    """Put pieces one after the other; what is not `Markup` is escaped."""
    return Markup(
        "".join(child if isinstance(child, Markup) else _text(child) for child in children)
    )


def _text(text: str) -> str:
    return escape(_clean(text), quote=False)


def _clean(text: str) -> str:
    """Replace what no file can hold: JSON may name half a surrogate pair, UTF-8 has none."""
    return text.encode("utf-8", "replace").decode("utf-8")
