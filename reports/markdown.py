"""Tables for a README."""

from dataclasses import dataclass

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.results.table import Entry, Table, tables


@dataclass(frozen=True, kw_only=True)
class Markdown(Report):
    """Markdown tables: methods as rows, rho_a as columns, the best in bold."""

    def render(self, frame: pd.DataFrame) -> str:
        """Return one table for each setting."""
        return "\n\n".join(map(_table, tables(frame))) + "\n"


def _table(table: Table) -> str:
    lines = [
        f"Clean test accuracy (%): {table.title}",
        "",
        "| method | " + " | ".join(map(_escape, table.headings)) + " |",
        "|---" * (len(table.columns) + 1) + "|",
        *(
            f"| {' | '.join([_escape(name), *map(_entry, entries)])} |"
            for name, entries in table.rows.items()
        ),
    ]
    return "\n".join(lines)


def _entry(entry: Entry | None) -> str:
    if entry is None:
        return ""
    text = entry.text(" ± ")
    return f"**{text}**" if entry.best else text


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
