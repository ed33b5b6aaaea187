"""Tables and lists as HTML; all text is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def bullets(sentences: Sequence[str]) -> str:
    """A list of sentences; "" where there are none."""
    if not sentences:
        return ""
    items = (escape(one).replace(" = ", "&nbsp;=&nbsp;") for one in sentences)
    return "<ul>" + "".join(f"<li>{one}</li>" for one in items) + "</ul>"


def table(rows: Sequence[Mapping[str, Any]], numbers: set[str]) -> str:
    """A table with the keys of the first row as headings; `numbers` are set to the right."""
    if not rows:
        return '<p class="small">None yet.</p>'

    def entry(tag: str, name: str, text: str) -> str:
        style = ' class="number"' if name in numbers else ""
        return f"<{tag}{style}>{escape(text)}</{tag}>"

    head = "".join(entry("th", name, name) for name in rows[0])
    body = "".join(
        "<tr>" + "".join(entry("td", name, str(value)) for name, value in row.items()) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def paragraph(text: str) -> str:
    """A paragraph in small print."""
    return f'<p class="small">{escape(text)}</p>'
