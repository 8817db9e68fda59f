"""A table after applying the options of a style, ready for every format."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.names import display, parse_aliases
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import MARKS, Column, Entry, Mark, Row, Table, entry_text

_STANDARD = ", with the sample standard deviation"
_SPREADS = {"std": _STANDARD, "interval": ", with the 95 % interval of the mean", "none": ""}
_PEAK = "After the slash: highest accuracy over epochs."


@dataclass(frozen=True)
class Cell:
    """An entry and its number of decimal places."""

    entry: Entry
    digits: int


@dataclass(frozen=True)
class Sheet:
    """A table ready to print: names with aliases, methods as rows or columns.

    Attributes:
        caption: quantity and common setting.
        notes: sentences on seeds and bold entries.
        legend: symbol and meaning of each mark.
        sources: sentences on where published figures are from.
        corner: heading of the column of row names.
        headings: headings of the other columns.
        rows: a name, and a cell or None for each column.
    """

    caption: str
    notes: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    corner: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]

    @property
    def below(self) -> str:
        """What stands below the table as one paragraph: notes, legend, sources."""
        legend = (f"{symbol} {text}." for symbol, text in self.legend)
        return " ".join([*self.notes, *legend, *self.sources])


def arrange(table: Table, style: TableStyle) -> Sheet:
    """Return the table with the style applied and every text printable.

    Raises:
        UserError: invalid aliases.
    """
    aliases = parse_aliases(style.aliases)
    columns, rows = table.columns, table.rows
    if style.budget and any(row.budget for row in rows):
        columns = (Column("rho_u"), *columns)
        rows = tuple(_with_budget(row) for row in rows)
    headings = tuple(printable(_heading(column, aliases)) for column in columns)
    names = tuple(printable(row.name(aliases)) for row in rows)
    cells = [_cells(row.entries, columns, style) for row in rows]
    corner = table.corner
    if style.transpose:
        headings, names, corner = names, headings, ""
        cells = [tuple(row) for row in zip(*cells, strict=True)]
    texts = {f"{symbol} {text}." for symbol, text in MARKS.values()}
    # The mark "fewer" is part of the text: (n=2).
    legend = [MARKS[mark] for mark in table.marks if mark != "fewer"]
    return Sheet(
        printable(f"{table.caption}: {table.title}" if table.title else table.caption),
        tuple(
            _note(note, style)
            for note in (*_notes(table, style), *_needs(table, aliases))
            if note not in texts
        ),
        tuple(legend),
        tuple(map(printable, table.sources)),
        printable(corner),
        headings,
        tuple(zip(names, cells, strict=True)),
    )


def _notes(table: Table, style: TableStyle) -> Sequence[str]:
    peaks = style.peak and any(entry.peak is not None for entry in table.entries)
    return (*table.notes, *([_PEAK] if peaks else []))


def _needs(table: Table, aliases: Mapping[str, str]) -> Iterator[str]:
    """Yield the note on what needs more than labels: `clean subset (Early stopping)`."""
    names: dict[str, list[str]] = {}
    for label, need in table.needs:
        names.setdefault(need, []).append(display(label, aliases))
    if names:
        texts = (f"{need} ({', '.join(of)})" for need, of in names.items())
        yield f"Needs beyond labels: {'; '.join(texts)}."


def _note(note: str, style: TableStyle) -> str:
    """Return a note that names the printed spread."""
    return printable(note.replace(_STANDARD, _SPREADS[style.spread]))


def _with_budget(row: Row) -> Row:
    entry = Entry(text=row.budget) if row.budget else None
    return replace(row, entries=(entry, *row.entries), note="")


def _heading(column: Column, aliases: Mapping[str, str]) -> str:
    return aliases.get(column.value, column.heading) if column.value else column.heading


def _cells(
    entries: Sequence[Entry | None], columns: Sequence[Column], style: TableStyle
) -> tuple[Cell | None, ...]:
    pairs = zip(entries, columns, strict=True)
    return tuple(_cell(entry, column, style) for entry, column in pairs)


def _cell(entry: Entry | None, column: Column, style: TableStyle) -> Cell | None:
    if entry is None:
        return None
    if entry.text is not None:
        entry = replace(entry, text=printable(entry.text))
    elif entry.mean is not None and not math.isfinite(entry.mean):
        entry = replace(entry, mean=None)
    empty = entry.mean is None and not entry.text and not entry.marks
    return None if empty else Cell(entry, style.digits if column.digits is None else column.digits)


def text_of(cell: Cell, plus_minus: str, style: TableStyle) -> str:
    """Return the number or text of a cell without marks: `16.2 ± 0.3 (n=2)`."""
    fewer: tuple[Mark, ...] = ("fewer",) if "fewer" in cell.entry.marks else ()
    return entry_text(replace(cell.entry, marks=fewer), plus_minus, style, cell.digits)


def marks_of(cell: Cell) -> list[tuple[str, str]]:
    """Return symbol and meaning of the marks of a cell, except "fewer", which is in its text."""
    return [MARKS[mark] for mark in cell.entry.marks if mark != "fewer"]
