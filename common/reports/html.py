"""HTML of the page: one file, no external resource, readable on a phone, in light and in dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

RESEARCH_ONLY = "Research use only. Not for diagnosis."

STYLE = """
:root { color-scheme: light dark; --page: #f4f6f9; --card: #ffffff; --text: #1f2933; --soft: #5b6876; --line: #e3e8ef;
  --accent: #1d4ed8; --good: #047857; --mixed: #b45309; --bad: #b91c1c; --warn: #fff4e0; --warn-text: #7a4a00; }
@media (prefers-color-scheme: dark) { :root { --page: #0e131a; --card: #171d26; --text: #dbe2ea; --soft: #94a1b0;
  --line: #2d3643; --accent: #7aa7ff; --good: #4cc79a; --mixed: #f0a94a; --bad: #ff8080; --warn: #33270f;
  --warn-text: #ffd9a0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 3rem; }
.banner { background: var(--warn); color: var(--warn-text); text-align: center; padding: .45rem 1rem; font-weight: 600;
  font-size: .9rem; }
h1 { font-size: clamp(1.35rem, 4vw, 1.9rem); margin: 1rem 0 .1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.3rem 0 .4rem; }
p { margin: .4rem 0; }
.soft, figcaption { color: var(--soft); font-size: .88rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin-top: 1rem;
  padding: 1.1rem clamp(.8rem, 2vw, 1.4rem); }
.verdict { border-left: 6px solid var(--soft); font-size: 1.08rem; }
.verdict.wins { border-left-color: var(--good); } .verdict.mixed { border-left-color: var(--mixed); }
.verdict.loses { border-left-color: var(--bad); }
.verdict ul { margin: .5rem 0 0; padding-left: 1.2rem; font-size: .92rem; color: var(--soft); }
.alarms { background: var(--warn); color: var(--warn-text); border-color: transparent; }
.alarms ul { margin: 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .3rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 500; color: var(--soft); }
th.group { text-align: center; font-size: .8rem; line-height: 1.25; }
th.group span { display: inline-block; max-width: 13rem; white-space: normal; }
thead th { white-space: normal; min-width: 4.6rem; }
tbody th { white-space: normal; min-width: 9.5rem; line-height: 1.3; }
thead tr:first-child th:first-child, tbody th { text-align: left; color: var(--text); }
thead th { vertical-align: bottom; }
tr.network th, tr.network td { background: color-mix(in srgb, var(--accent) 9%, transparent); }
tr.direction th { color: var(--accent); padding-top: .9rem; font-weight: 600; }
tr.network th { font-weight: 700; }
td b { color: var(--accent); }
.sd { color: var(--soft); font-size: .8rem; display: block; line-height: 1.2; }
table.facts { min-width: 0; } table.facts th { color: var(--soft); }
table.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(46%, 170px), 1fr)); gap: .5rem;
  background: #000; padding: .5rem; border-radius: 10px; color: #e8edf3; }
.panels.four { grid-template-columns: repeat(4, 1fr); }
@media (max-width: 700px) { .panels.four { grid-template-columns: 1fr 1fr; } }
.panels.four figure { display: flex; flex-direction: column; } .inset { margin-top: auto; }
.panels figure { margin: 0; } .panels img { width: 100%; display: block; }
.panels figcaption { color: #e8edf3; font-weight: 600; font-size: .85rem; padding: .1rem .2rem .3rem; }
.panels small { display: block; color: #a9b4c0; padding: .2rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 1rem; }
.plots.wide { grid-template-columns: minmax(0, 860px); }
.plots.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); }
.plots figure { margin: 0; } .plots img { width: 100%; display: block; }
.key { display: inline-block; width: .9em; height: .9em; border-radius: 50%; border: 3px solid; vertical-align: -.1em;
  margin: 0 .25em 0 .8em; }
summary { cursor: pointer; color: var(--accent); margin-top: .6rem; }
"""


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """Write a complete page; `sections` are HTML, title and subtitle plain text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<div class="banner">{RESEARCH_ONLY}</div>\n<main>\n<header><h1>{escape(title)}</h1>'
        f'<p class="soft">{escape(subtitle)}</p></header>\n'
        + "\n".join(part for part in sections if part)
        + f'\n</main>\n<div class="banner">{RESEARCH_ONLY}</div>\n</body>\n</html>\n'
    )


def section(heading: str, *content: str, kind: str = "") -> str:
    """Write a card; empty if all its content is."""
    body = "\n".join(part for part in content if part)
    title = f"<h2>{escape(heading)}</h2>" if heading else ""
    return f'<section class="{escape(kind)}">{title}{body}</section>' if body else ""


def block(heading: str, content: str, *, note: str = "") -> str:
    """Write a heading, its content and a note below; empty without content."""
    if not content:
        return ""
    return f"<h3>{escape(heading)}</h3>{content}" + (f'<p class="soft">{escape(note)}</p>' if note else "")


def bullets(lines: Sequence[str]) -> str:
    """Write a list of plain texts."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def details(heading: str, content: str) -> str:
    """Write content that is folded away."""
    return f"<details><summary>{escape(heading)}</summary>{content}</details>" if content else ""


def image(png: bytes, description: str) -> str:
    """Embed a picture in the page."""
    return f'<img alt="{escape(description, quote=True)}" src="{_data(png)}">'


def themed_image(light: bytes, dark: bytes, description: str, *, caption: bool = False) -> str:
    """Embed a picture that follows the page's colour scheme; with `caption` its description also goes below it."""
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">'
    below = f"<figcaption>{escape(description)}</figcaption>" if caption else ""
    return f"<figure><picture>{source}{image(light, description)}</picture>{below}</figure>"


def panel(png: bytes, heading: str, note: str, *, inset: bytes | None = None) -> str:
    """Write one picture of a case, with its heading above, its key and then its enlarged part below."""
    small = f"<small>{escape(note)}</small>" if note else "<small>&nbsp;</small>" if inset else ""
    part = f'<div class="inset">{image(inset, f"{heading}, enlarged")}</div>' if inset else ""
    return f"<figure><figcaption>{escape(heading)}</figcaption>{image(png, heading)}{small}{part}</figure>"


def legend(keys: Sequence[tuple[str, str]]) -> str:
    """Write names beside rings of their colour."""
    return "".join(
        f'<span class="key" style="border-color:{escape(colour, quote=True)}"></span>{escape(name)}'
        for name, colour in keys
    )


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
