"""HTML of the page from the templates: one file, no external resource, readable on a phone, in light and in dark.

The templates escape every text; what they return is `Markup`, which is not escaped again when it becomes a part of
something larger.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
RESEARCH_ONLY = "Research use only. Not for diagnosis."


@cache
def environment() -> Environment:
    """Return the environment of the templates, in which every text is escaped and every name must be given."""
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def part(macro: str, *arguments: Any, **named: Any) -> Markup:
    """Write a part of a page by a macro of `parts.html`."""
    return Markup(getattr(environment().get_template("parts.html").module, macro)(*arguments, **named))


def render(template: str, **values: Any) -> Markup:
    """Write a part of a page by a template of its own."""
    return Markup(environment().get_template(template).render(values))


def joined(parts: Iterable[str], separator: str = "") -> Markup:
    """Join parts of a page, of which empty ones are left out; parts that are plain text are escaped."""
    return Markup(separator).join(part for part in parts if part)


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """Write a complete page; title and subtitle are plain text."""
    values = {"title": title, "subtitle": subtitle, "sections": sections, "notice": RESEARCH_ONLY}
    return environment().get_template("page.html").render(values) + "\n"


def section(heading: str, *content: str, kind: str = "") -> Markup:
    """Write a card; empty if all its content is."""
    body = joined(content, "\n")
    return part("section", heading, body, kind) if body else body


def block(heading: str, content: str, *, note: str = "") -> Markup:
    """Write a heading, its content and a note below; empty without content."""
    return part("block", heading, content, note) if content else Markup()


def bullets(lines: Sequence[str]) -> Markup:
    """Write a list; empty without lines."""
    return part("bullets", lines) if lines else Markup()


def details(heading: str, content: str) -> Markup:
    """Write content that is folded away; empty without content."""
    return part("details", heading, content) if content else Markup()


def plots(figures: Sequence[str], kind: str = "") -> Markup:
    """Write figures side by side; empty without figures."""
    return part("plots", joined(figures), kind) if figures else Markup()


def image(png: bytes, description: str) -> Markup:
    """Embed a picture in the page."""
    return part("image", png_address(png), description)


def themed_image(light: bytes, dark: bytes, description: str, *, caption: bool = False) -> Markup:
    """Embed a picture that follows the page's colour scheme; with `caption` its description also goes below it."""
    return part("themed_image", png_address(light), png_address(dark), description, caption)


def panel(png: bytes, heading: str, note: str, *, inset: bytes | None = None) -> Markup:
    """Write one picture of a case, with its heading above, its key and then its enlarged part below."""
    return part("panel", png_address(png), heading, note, None if inset is None else png_address(inset))


def case(
    title: str,
    panels: Sequence[str],
    *,
    kind: str = "",
    note: str = "",
    keys: Sequence[tuple[str, str]] = (),
    more: str = "",
) -> Markup:
    """Write the pictures of a case.

    Args:
        title: Heading.
        panels: Parts that `panel` wrote.
        kind: `four` for pictures that come in rows of four.
        note: Text below.
        keys: Names and colours of outlines.
        more: What follows, such as curves.
    """
    return part("case", title, joined(panels), kind, note, keys, more)


def png_address(png: bytes) -> str:
    """Return the address under which a page holds a picture."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
