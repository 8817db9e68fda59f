r"""Columns of a LaTeX table, aligned by siunitx if it prints the right number.

A mean and its deviation are two S columns with a plus-minus sign between them. A single column of
`10.2(4)` would drop a zero deviation and print only half of a number bold; `9.5(12.1)` is an error.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from unlearnable_bench.reports._latex_text import breakable, escape, latin, width
from unlearnable_bench.reports._sheet import Cell, marks_of, text_of
from unlearnable_bench.results.style import TableStyle

_PLUS_MINUS = 11.2  # points, with its spaces
_SMALL = 0.75  # a superscript
_LINE = 12  # letters of a heading that never wrap
_LONG = 32  # letters per line of a wrapped text


@dataclass(frozen=True)
class Layout:
    r"""A column, or two for a mean and its deviation.

    Attributes:
        spec: column specification of the tabular.
        heading: its cell in the first row.
        cells: its cells in the other rows.
        width: approximate width in points at \normalsize, without gaps to its neighbours.
        wraps: texts that may wrap.
        best: whether a number is bold.
        filled: which cells are not empty.
    """

    spec: str
    heading: str
    cells: tuple[str, ...]
    width: float
    wraps: tuple[str, ...] = ()
    best: bool = False
    filled: tuple[bool, ...] = ()

    def wrapped(self, points: float, scale: float) -> "Layout":
        r"""Return the column with its texts wrapped to a width.

        Args:
            points: printed width in points.
            scale: letter width relative to \normalsize.
        """
        spec = rf">{{\raggedright\arraybackslash}}p{{{points:.0f}pt}}"
        cells = tuple(map(breakable, self.wraps))
        return replace(self, spec=spec, cells=cells, width=points / scale)


def names(corner: str, texts: Sequence[str]) -> Layout:
    """Return the column of row names."""
    widest = max(map(width, (corner, *texts)))
    return Layout("l", escape(corner), tuple(map(escape, texts)), widest, tuple(texts))


def column(heading: str, cells: Sequence[Cell | None], style: TableStyle, *, raw: bool) -> Layout:
    """Return the column of entries under a heading.

    Args:
        heading: text of the heading.
        cells: cells of a sheet.
        style: spread and peak.
        raw: whether to write other scripts unchanged.
    """
    present = [cell for cell in cells if cell is not None]
    if all(cell.entry.mean is None or cell.entry.text is not None for cell in present):
        found = _text_column(heading, cells, raw=raw)
    elif any(_composed(cell, style) for cell in present):
        found = _composed_column(heading, cells, style)
    elif any(_spread(cell, style) for cell in present):
        found = _pair_column(heading, cells, style, raw=raw)
    else:
        found = _number_column(heading, cells, style, raw=raw)
    best = any(cell.entry.best for cell in present)
    return replace(found, best=best, filled=tuple(cell is not None for cell in cells))


def _composed(cell: Cell, style: TableStyle) -> bool:
    """Return whether an entry is more than a mean and a deviation."""
    entry = cell.entry
    interval = style.spread == "interval" and entry.interval is not None
    return entry.mean is not None and (interval or (style.peak and entry.peak is not None))


def _spread(cell: Cell, style: TableStyle) -> bool:
    entry = cell.entry
    return style.spread == "std" and entry.mean is not None and entry.seeds > 1


def _text_column(heading: str, cells: Sequence[Cell | None], *, raw: bool) -> Layout:
    texts = [latin((cell.entry.text or "") if cell else "", raw=raw) for cell in cells]
    shown = [
        _with_marks(escape(text), cell) if text or (cell and cell.entry.marks) else "--"
        for text, cell in zip(texts, cells, strict=True)
    ]
    title, title_width = _heading(heading, texts)
    widest = max([title_width, *map(width, texts)])
    long = tuple(texts) if max(map(len, texts), default=0) > _LONG else ()
    return Layout("l", title, tuple(shown), widest, long)


def _composed_column(heading: str, cells: Sequence[Cell | None], style: TableStyle) -> Layout:
    texts = [text_of(cell, " ± ", style) if cell else "--" for cell in cells]
    shown = []
    for text, cell in zip(texts, cells, strict=True):
        # Not `escape`, which would brace the brackets of an interval and split its minus signs.
        number = text.replace("±", r"$\pm$").replace("-", "$-$") if cell else text
        bold = rf"\textbf{{{number}}}" if cell and cell.entry.best else number
        shown.append(_with_marks(bold, cell))
    title, title_width = _heading(heading, texts)
    return Layout("c", title, tuple(shown), max([title_width, *map(width, texts)]) * 1.05)


def _number_column(
    heading: str, cells: Sequence[Cell | None], style: TableStyle, *, raw: bool
) -> Layout:
    means = [_mean(cell) for cell in cells]
    after = [_after(cell) for cell in cells]
    shown = [
        f"{_weight(cell)}{mean}{post}" if mean else f"{{{_other(cell, style, raw=raw)}}}"
        for cell, mean, (post, _) in zip(cells, means, after, strict=True)
    ]
    title, title_width = _heading(heading, means)
    space = _widest(after)
    content = max(map(width, means)) + space[1]
    spec = f"S[{_format(means)}{_post(space[0])}]"
    return Layout(spec, f"{{{title}}}", tuple(shown), max(content, title_width))


def _pair_column(
    heading: str, cells: Sequence[Cell | None], style: TableStyle, *, raw: bool
) -> Layout:
    means = [_mean(cell) if cell and _spread(cell, style) else "" for cell in cells]
    spreads = [
        f"{cell.entry.std:.{cell.digits}f}" if cell and mean else ""
        for cell, mean in zip(cells, means, strict=True)
    ]
    after = [_after(cell) for cell in cells]
    shown = []
    for cell, mean, spread, (post, _) in zip(cells, means, spreads, after, strict=True):
        other = rf"\multicolumn{{2}}{{c}}{{{_other(cell, style, raw=raw)}}}"
        weight = _weight(cell)
        shown.append(f"{weight}{mean} & {weight}{spread}{post}" if mean else other)
    space = _widest(after)
    content = max(map(width, means)) + _PLUS_MINUS + max(map(width, spreads)) + space[1]
    title, title_width = _heading(heading, [f"{max(means)} ± {max(spreads)}"])
    left, right = "", ""
    if title_width > content:
        # A wider heading would separate mean and deviation. In em, to shrink with the letters.
        extra = (title_width - content) / 2
        key = ",table-column-width={:.2f}em,table-number-alignment={}"
        left = key.format((max(map(width, means)) + extra) / 10, "right")
        right = key.format((max(map(width, spreads)) + space[1] + extra) / 10, "left")
    spec = rf"S[{_format(means)}{left}]@{{\,$\pm$\,}}S[{_format(spreads)}{right}{_post(space[0])}]"
    head = rf"\multicolumn{{2}}{{c}}{{{title}}}"
    return Layout(spec, head, tuple(shown), max(content, title_width))


def _mean(cell: Cell | None) -> str:
    if cell is None or cell.entry.mean is None or cell.entry.text is not None:
        return ""
    return f"{cell.entry.mean:z.{cell.digits}f}"


def _other(cell: Cell | None, style: TableStyle, *, raw: bool) -> str:
    """Return a text instead of a number, or a number without a deviation."""
    if cell is None:
        return "--"
    text = escape(latin(text_of(cell, " ± ", style), raw=raw))
    return _with_marks(rf"\textbf{{{text}}}" if cell.entry.best and text else text, cell)


def _weight(cell: Cell | None) -> str:
    return r"\bfseries " if cell and cell.entry.best else ""


def _after(cell: Cell | None) -> tuple[str, float]:
    """Return the text after a number, in braces, and its width."""
    if cell is None or cell.entry.mean is None:
        return "", 0
    few = rf"\,($n$={cell.entry.counted})" if "fewer" in cell.entry.marks else ""
    space = width(f" (n={cell.entry.counted})") if few else 0
    symbols = "".join(symbol for symbol, _ in marks_of(cell))
    marks = _superscript(symbols)
    return (f" {{{few}{marks}}}" if few or marks else ""), space + _SMALL * width(symbols)


def _with_marks(text: str, cell: Cell | None) -> str:
    symbols = "".join(symbol for symbol, _ in marks_of(cell)) if cell else ""
    return text + _superscript(symbols) if text else escape(symbols) or "--"


def _superscript(symbols: str) -> str:
    return rf"\textsuperscript{{{escape(symbols)}}}" if symbols else ""


def _widest(after: Iterable[tuple[str, float]]) -> tuple[str, float]:
    return max(after, key=lambda one: one[1], default=("", 0))


def _post(text: str) -> str:
    return f",table-space-text-post={text.strip()}" if text else ""


def _format(numbers: Iterable[str]) -> str:
    """Return the exact room for numbers, `table-format=-2.1`; siunitx overflows a smaller one."""
    parts = [number.lstrip("-").partition(".") for number in numbers if number]
    sign = "-" if any(number.startswith("-") for number in numbers) else ""
    whole = max(len(part[0]) for part in parts)
    decimals = max(len(part[2]) for part in parts)
    return f"table-format={sign}{whole}.{decimals}"


def _heading(text: str, below: Sequence[str]) -> tuple[str, float]:
    """Return a heading wrapped to about the width of the cells, and its width in points."""
    letters = max([_LINE, *map(len, below)])
    # A radius stays together: rho_a 4/255.
    whole = text.replace("rho_a ", "rho_a\xa0").replace("rho_u ", "rho_u\xa0")
    lines = textwrap.wrap(whole, letters, break_on_hyphens=False) or [""]
    shown = r"\\".join(map(escape, lines))
    head = shown if len(lines) == 1 else rf"\shortstack{{{shown}}}"
    return head, max(map(width, lines))
