"""Tables for spreadsheets and other programs: one line per entry, with one header."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearnable_bench.options import Configurable, option
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.names import parse_aliases
from unlearnable_bench.results.table import Column, Entry, Row, Table

COLUMNS = (
    "table", "title", "row", "column", "mean", "std", "n", "low", "high", "peak", "best", "text",
    "marks", "keys",
)  # fmt: skip
# First characters of a formula in a spreadsheet, with their full-width forms.
_FORMULA = tuple("=+-@\t\r＝＋－＠")  # noqa: RUF001 - meant as they are


@dataclass(frozen=True, kw_only=True)
class Style(Configurable):
    """Style of CSV tables; numbers have all their digits."""

    aliases: str = option("", "names to write instead of labels, e.g. sem=Ours,em=EM*")


def render(tables: Sequence[Table], style: Style) -> str:
    """Return one line for each entry of each table.

    `low` and `high` are the 95 % interval of the mean; `keys` are the keys of the records,
    separated by spaces.
    """
    aliases = parse_aliases(style.aliases)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        about = [harmless(table.name), harmless(f"{table.caption}: {table.title}")]
        for row in table.rows:
            for column, entry in zip(table.columns, row.entries, strict=True):
                if entry is not None:
                    writer.writerow([*about, *_line(row, column, entry, aliases)])
    return text.getvalue()


def _line(
    row: Row, column: Column, entry: Entry, aliases: Mapping[str, str]
) -> list[str | float | int | None]:
    low, high = entry.interval or (None, None)
    has_number = entry.mean is not None and math.isfinite(entry.mean)
    return [
        harmless(row.name(aliases)),
        harmless(aliases.get(column.value, column.heading)),
        entry.mean if has_number else None,
        entry.std if has_number and entry.seeds > 1 else None,
        entry.seeds if has_number else None,
        low,
        high,
        entry.peak,
        "yes" if entry.best else None,
        harmless(entry.text or ""),
        " ".join(entry.marks),
        " ".join(entry.keys),
    ]


def harmless(text: str) -> str:
    """Return text that a spreadsheet does not evaluate: an apostrophe precedes a formula.

    Source: OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection.
    """
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA) else text
