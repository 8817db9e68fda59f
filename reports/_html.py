"""HTML tables: fragments for a web page, without style or script."""

import re
from collections.abc import Sequence
from html import escape

from unlearnable_bench.reports._sheet import Cell, Sheet, arrange, marks_of, text_of
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import Table

Style = TableStyle

_ADDRESS = re.compile(r"https://[^\s()]*[\w/]")


def render(tables: Sequence[Table], style: TableStyle) -> str:
    """Return one `table` element for each table, with its notes in the caption."""
    return "\n".join(_table(arrange(table, style), style) for table in tables) + "\n"


def _table(sheet: Sheet, style: TableStyle) -> str:
    caption = _linked(escape(f"{sheet.caption}. {sheet.below}".strip()))
    corner = f'<th scope="col">{escape(sheet.corner)}</th>' if sheet.corner else "<td></td>"
    headings = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in sheet.headings)
    lines = ["<table>", f"<caption>{caption}</caption>"]
    lines.append(f"<thead><tr>{corner}{headings}</tr></thead>")
    lines.append("<tbody>")
    for name, cells in sheet.rows:
        entries = "".join(f"<td>{_text(cell, style)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{entries}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


def _linked(text: str) -> str:
    """Return escaped text with its addresses as links."""
    return _ADDRESS.sub(lambda found: f'<a href="{found[0]}">{found[0]}</a>', text)


def _text(cell: Cell | None, style: TableStyle) -> str:
    if cell is None:
        return ""
    text = escape(text_of(cell, " ± ", style))
    marks = [
        f'<abbr title="{escape(meaning)}">{escape(symbol)}</abbr>'
        for symbol, meaning in marks_of(cell)
    ]
    if cell.entry.best:
        text = f"<strong>{text}</strong>"
    return " ".join([text, *marks]).strip()
