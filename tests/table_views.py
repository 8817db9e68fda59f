"""A table as a test looks at it: headings, and by row means, texts and which are bold."""

from unlearnable_bench.results.table import Table, entry_text


def headings(table: Table) -> list[str]:
    return [column.heading for column in table.columns]


def means(table: Table) -> dict[str, list[float | None]]:
    return {row.name(): [entry and entry.mean for entry in row.entries] for row in table.rows}


def texts(table: Table) -> dict[str, list[str | None]]:
    return {
        row.name(): [entry and entry_text(entry, " ± ", digits=c.digits) for entry, c in pairs]
        for row in table.rows
        if (pairs := list(zip(row.entries, table.columns, strict=True)))
    }


def bold(table: Table) -> dict[str, list[bool]]:
    return {row.name(): [bool(e and e.best) for e in row.entries] for row in table.rows}
