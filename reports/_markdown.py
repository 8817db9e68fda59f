"""Markdown tables for a README or a terminal, with aligned columns."""

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from unlearnable_bench.reports._sheet import Cell, Sheet, arrange, marks_of, text_of
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import Table

Style = TableStyle

# An underscore within a word (rho_a) is plain text in every dialect.
_SPECIAL = re.compile(r"[\\|`*<>\[\]~$&]|(?<![^\W_])_|_(?![^\W_])")


def render(tables: Sequence[Table], style: TableStyle) -> str:
    """Return the tables one after another, each with its caption above and its notes below it."""
    return "\n\n".join(_table(arrange(table, style), style) for table in tables) + "\n"


def _table(sheet: Sheet, style: TableStyle) -> str:
    rows = [[sheet.corner, *sheet.headings]]
    rows += [[name, *(_text(cell, style) for cell in cells)] for name, cells in sheet.rows]
    escaped = [[_escape(row[0]), *row[1:]] for row in rows[1:]]
    escaped.insert(0, [*map(_escape, rows[0])])
    widths = [max(3, *map(cell_len, column)) for column in zip(*escaped, strict=True)]
    numbers = [False, *(_numeric(cells) for cells in zip(*(r[1] for r in sheet.rows), strict=True))]
    lines = [_row(map(_padded, row, widths, numbers)) for row in escaped]
    lines.insert(1, _row(_rule(*column) for column in zip(widths, numbers, strict=True)))
    lines = [_escape(sheet.caption), "", *lines]
    return "\n".join([*lines, "", _escape(sheet.below)] if sheet.below else lines)


def _numeric(cells: Iterable[Cell | None]) -> bool:
    return any(cell.entry.mean is not None for cell in cells if cell)


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _padded(text: str, width: int, number: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if number else text + blanks


def _rule(width: int, number: bool) -> str:
    return "-" * (width - 1) + (":" if number else "-")


def _text(cell: Cell | None, style: TableStyle) -> str:
    if cell is None:
        return ""
    marks = [symbol for symbol, _ in marks_of(cell)]
    text = _escape(" ".join([text_of(cell, " ± ", style), *marks]).strip())
    return f"**{text}**" if cell.entry.best else text


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)
