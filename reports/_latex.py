"""LaTeX tables for a paper: booktabs rules, numbers aligned by siunitx, the best in bold.

All packages are in Debian's texlive-latex-recommended and texlive-science.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import option
from unlearnable_bench.reports._latex_columns import Layout, column, names
from unlearnable_bench.reports._latex_text import escape, flowing, latin
from unlearnable_bench.reports._sheet import Sheet, arrange
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import Table

PACKAGES = ("array", "booktabs", "siunitx")
# Environment and its width in points. One column: 5.5 in (NeurIPS, ICLR). Two columns: 3.25 in
# and 6.75 in (ICML), the narrowest of the common styles.
_ROOMS = {False: (("table", 397.0),), True: (("table", 234.0), ("table*", 487.0))}
# Font size, its letter width relative to \normalsize, and points between columns on each side.
_SIZES = ((r"\normalsize", 1.0, 6), (r"\small", 0.93, 5), (r"\footnotesize", 0.86, 4))
_TIGHT = (r"\footnotesize", 0.86, 3)
# Share of the width for names that wrap: the least if all columns then fit in one block, and the
# share otherwise.
_LEAST_NAMES = 0.2
_NAMES_SHARE = 0.4
# Only if a number is bold: as text, a minus sign is a bitmap of the font tcrm.
_BOLD_NUMBERS = r"\sisetup{detect-weight=true,mode=text}"
_FLOATS = 10  # tables of a document after which LaTeX must flush its floats
_GEOMETRY = {
    False: "textwidth=5.5in,textheight=9in",
    True: "textwidth=6.75in,columnsep=0.25in,textheight=9in",
}


@dataclass(frozen=True, kw_only=True)
class Style(TableStyle):
    """Style of LaTeX tables."""

    document: bool = option(False, "complete document that compiles, instead of tables to include")
    two_column: bool = option(
        False, "layout for a two-column paper, in which tables wider than a column are table*"
    )
    label: str = option("tab:", "prefix of labels: tab: gives tab:main-cifar10")
    unicode: bool = option(
        False,
        "names in other scripts for LuaLaTeX or XeLaTeX, instead of romanised names",
    )


def render(tables: Sequence[Table], style: Style) -> str:
    """Return one `table` environment for each table, or a document of them.

    Raises:
        UserError: invalid aliases or an invalid label prefix.
    """
    if not re.fullmatch(r"[A-Za-z0-9:./+-]*", style.label):
        raise UserError(
            f"label={style.label!r} must consist of letters, digits and :./+-, such as tab:"
        )
    sheets = [_in_letters(arrange(table, style), style) for table in tables]
    labels = _labels(tables)
    parts = [
        _environment(sheet, style.label + label, style)
        for (sheet, _), label in zip(sheets, labels, strict=True)
    ]
    romanised = {name: text for _, found in sheets for name, text in found.items()}
    comments = [
        rf"% needs \usepackage{{{','.join(PACKAGES)}}}",
        *(f'% "{text}" is {name}; unicode=true keeps it' for name, text in romanised.items()),
    ]
    if not style.document:
        return "\n".join(comments) + "\n" + "\n\n".join(parts) + "\n"
    return "\n".join(_document(comments, parts, style)) + "\n"


def _document(comments: list[str], parts: list[str], style: Style) -> Iterator[str]:
    yield from comments
    yield rf"\documentclass{'[twocolumn]' if style.two_column else ''}{{article}}"
    yield rf"\usepackage[{_GEOMETRY[style.two_column]}]{{geometry}}"
    yield from (rf"\usepackage{{{package}}}" for package in PACKAGES)
    yield r"\begin{document}"
    for k, part in enumerate(parts):
        if k and k % _FLOATS == 0:
            yield r"\clearpage"
        yield part
    yield r"\end{document}"


def _in_letters(sheet: Sheet, style: Style) -> tuple[Sheet, dict[str, str]]:
    """Return a sheet whose names LaTeX can print, and the names that were romanised.

    Names that become equal are numbered, so that rows stay distinguishable.
    """
    romanised: dict[str, str] = {}

    def written(text: str) -> str:
        found = latin(text, raw=style.unicode)
        if latin(text, raw=True) != found:
            romanised[text] = found
        return found

    seen: Counter[str] = Counter()
    rows = []
    for name, cells in sheet.rows:
        text = written(name)
        seen[text] += 1
        if seen[text] > 1 and name in romanised:
            text = romanised[name] = f"{text} ({seen[text]})"
        rows.append((text, cells))
    found = Sheet(
        latin(sheet.caption, raw=style.unicode),
        tuple(latin(note, raw=style.unicode) for note in sheet.notes),
        sheet.legend,
        tuple(latin(source, raw=style.unicode) for source in sheet.sources),
        latin(sheet.corner),
        tuple(map(written, sheet.headings)),
        tuple(rows),
    )
    return found, romanised


def _environment(sheet: Sheet, label: str, style: Style) -> str:
    first = names(sheet.corner, [name for name, _ in sheet.rows])
    columns = [
        column(heading, [cells[k] for _, cells in sheet.rows], style, raw=style.unicode)
        for k, heading in enumerate(sheet.headings)
    ]
    environment, (size, _, gap), blocks = _fitted(first, columns, two_column=style.two_column)
    caption = " ".join([f"{sheet.caption}.", *sheet.notes])
    lines = [
        rf"\begin{{{environment}}}[t]",
        r"\centering",
        rf"\caption{{{flowing(caption)}}}",
        rf"\label{{{label}}}",
        *([size] if size != r"\normalsize" else []),
        *([rf"\setlength{{\tabcolsep}}{{{gap}pt}}"] if gap != _SIZES[0][2] else []),
        r"\setlength{\abovetopsep}{4pt}",
        *([_BOLD_NUMBERS] if any(one.best for one in columns) else []),
        "\n\\par\\medskip\n".join(map(_tabular, blocks)),
    ]
    marks = "; ".join(
        rf"\textsuperscript{{{escape(symbol)}}}\,{escape(text)}" for symbol, text in sheet.legend
    )
    below = " ".join([*([f"{marks}."] if marks else []), *map(flowing, sheet.sources)])
    if below:
        lines += [
            r"\par\smallskip",
            rf"\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright {below}\end{{minipage}}",
        ]
    return "\n".join([*lines, rf"\end{{{environment}}}"])


def _tabular(columns: Sequence[Layout]) -> str:
    spec = "".join(one.spec for one in columns)
    rows = [*zip(*(one.cells for one in columns), strict=True)]
    # A row that is empty in this block appears in another one.
    filled = [any(one.filled[k] for one in columns[1:]) for k in range(len(rows))]
    rows = [row for row, shown in zip(rows, filled, strict=True) if shown or not any(filled)]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{spec}}}",
            r"\toprule",
            " & ".join(one.heading for one in columns) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _fitted(
    first: Layout, columns: Sequence[Layout], *, two_column: bool
) -> tuple[str, tuple[str, float, int], list[list[Layout]]]:
    """Return environment, font size and blocks of columns such that a table fits the width.

    First the font gets smaller; then the table spans both columns of the page; then its columns are
    split into several blocks below each other, each with the row names.
    """
    rooms = _ROOMS[two_column]
    for environment, room in rooms:
        for size in (*_SIZES, _TIGHT):
            if _total([first, *columns], size) <= room:
                return environment, size, [[first, *columns]]
    environment, room = rooms[-1]
    left = room - _total(columns, _TIGHT) - 2 * _TIGHT[2]
    share = left if room * _LEAST_NAMES < left else room * _NAMES_SHARE
    first = _narrowed(first, share)
    rest = room - _total([first], _TIGHT)
    columns = [_narrowed(one, rest * 0.5) for one in columns]
    return environment, _TIGHT, [[first, *block] for block in _blocks(columns, rest)]


def _total(columns: Sequence[Layout], size: tuple[str, float, int]) -> float:
    _, scale, gap = size
    return sum(scale * one.width + 2 * gap for one in columns)


def _narrowed(one: Layout, points: float) -> Layout:
    """Return a column whose texts wrap if it is wider than a number of points."""
    _, scale, _ = _TIGHT
    return one.wrapped(points, scale) if one.wraps and scale * one.width > points else one


def _blocks(columns: Sequence[Layout], room: float) -> list[list[Layout]]:
    """Return the columns in as few blocks as possible, of about equal size."""
    greedy: list[list[Layout]] = [[]]
    for one in columns:
        if greedy[-1] and _total([*greedy[-1], one], _TIGHT) > room:
            greedy.append([])
        greedy[-1].append(one)
    each = -(-len(columns) // len(greedy))
    even = [list(columns[k : k + each]) for k in range(0, len(columns), each)]
    fits = all(_total(block, _TIGHT) <= room for block in even)
    return even if fits else greedy


def _labels(tables: Sequence[Table]) -> list[str]:
    """Return a unique label for each table: report, data set and the distinguishing settings."""
    bases = [f"{table.name}-{_slug(table.title.split(', ')[0], '')}" for table in tables]
    found: list[str] = []
    for table, base in zip(tables, bases, strict=True):
        alike = [
            other.title.split(", ")
            for other, name in zip(tables, bases, strict=True)
            if name == base
        ]
        own = [part for part in table.title.split(", ")[1:] if any(part not in o for o in alike)]
        found.append("-".join([base, *(_slug(part, "-") for part in own)]).strip("-"))
    seen: Counter[str] = Counter()
    for k, label in enumerate(found):
        seen[label] += 1
        found[k] = label if seen[label] == 1 else f"{label}-{seen[label]}"
    return found


def _slug(text: str, between: str) -> str:
    return re.sub(r"[^a-z0-9]+", between, latin(text).lower()).strip("-")
