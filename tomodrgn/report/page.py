"""Parts of a self-contained HTML page: text is escaped, pictures are inside, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from tomodrgn import __version__

__all__ = ["Picture", "bullets", "facts_table", "figure", "frame_table", "html_page"]

STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; }
.verdict { border-left: .4rem solid #888; padding: .5rem 1rem; font-size: 1.15rem; }
.good { border-color: #2a2; } .bad { border-color: #c22; }
table { border-collapse: collapse; } th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0;
border-bottom: 1px solid var(--line); } th { white-space: nowrap; } td { overflow-wrap: anywhere; }
figure { margin: 2rem 0; } img { max-width: 100%; background: white; border-radius: .4rem; }
figcaption, footer { font-size: .9rem; } .wide { overflow-x: auto; }
"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its heading, caption and description for those who cannot see it."""

    title: str
    png: bytes
    caption: str
    alt: str


def html_page(title: str, parts: Iterable[str], *, origin: Path | str) -> str:
    """The whole page; `parts` are HTML."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>\n</head>\n<body>",
            *parts,
            f"<footer>Written by tomodrgn {__version__} from {escape(str(origin))}.</footer>",
            "</body>\n</html>\n",
        ]
    )


def bullets(title: str, lines: Sequence[str]) -> list[str]:
    """A heading and a list; nothing if there are no lines."""
    items = [f"<li>{escape(line)}</li>" for line in lines]
    return [f"<h2>{escape(title)}</h2>", "<ul>", *items, "</ul>"] if lines else []


def facts_table(rows: Mapping[str, object]) -> str:
    """A table of two columns, a name and what is known of it."""
    cells = [f'<th scope="row">{escape(name)}</th><td>{escape(str(value))}</td>' for name, value in rows.items()]
    return "<table>\n" + "\n".join(f"<tr>{cell}</tr>" for cell in cells) + "\n</table>"


def frame_table(table: pd.DataFrame) -> str:
    """A table with its column names; numbers are rounded to four digits."""

    def text(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in table.columns)
    rows = (
        "<tr>" + "".join(f"<td>{escape(text(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n' + "\n".join(rows) + "\n</table></div>"


def figure(picture: Picture, *, level: int = 2) -> str:
    """A picture under its heading of a level, with its caption."""
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f"<figure>\n<h{level}>{escape(picture.title)}</h{level}>\n"
        f'<img alt="{escape(picture.alt)}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"
    )
