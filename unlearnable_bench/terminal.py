"""Text and tables on a terminal, safe against control sequences in names."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.progress import Progress as Bars
from rich.table import Table as Grid
from rich.text import Text

from unlearnable_bench.reports._sheet import Cell, arrange, marks_of, text_of
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import Table

_STYLE = TableStyle()


def terminal(*, stderr: bool = False) -> Console:
    """Return a console that prints square brackets and colons literally."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(out: Console, text: str, *, prefix: str = "") -> None:
    """Print one line without control characters; the terminal wraps it."""
    out.print(Text(prefix + printable(text)), soft_wrap=True)


def print_table(out: Console, table: Table) -> None:
    """Print a table with its caption above and its notes below it."""
    sheet = arrange(table, _STYLE)
    out.print()
    say(out, sheet.caption)
    grid = new_grid([sheet.corner], sheet.headings)
    between = " ± " if _can_write("±", out) else " +/- "
    for name, cells in sheet.rows:
        grid.add_row(Text(name), *(_text(cell, between) for cell in cells))
    print_grid(out, grid)
    notes = " ".join([*sheet.notes, *(f"{symbol} {text}." for symbol, text in sheet.legend)])
    if notes:
        say(out, notes)


def new_grid(texts: Sequence[str], numbers: Sequence[str]) -> Grid:
    """Return an empty table with text columns, then right-aligned number columns."""
    grid = Grid()
    for heading in texts:
        grid.add_column(Text(printable(heading)))
    for heading in numbers:
        grid.add_column(Text(printable(heading)), justify="right")
    return grid


def print_grid(out: Console, grid: Grid) -> None:
    """Print a table; at full width if the output is a file or a pipe."""
    if not out.is_terminal:
        whole = max(80, Console(width=10_000).measure(grid).maximum)
        out = Console(file=out.file, width=whole, highlight=False, markup=False, emoji=False)
    out.print(grid)


class Tracker:
    """Progress bars: one for the cells, one for the current loop."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`, of which the first is above 0 in a resumed run."""
        task = self._bars.add_task(printable(label), total=total)
        for step in steps:
            yield step
            self._bars.update(task, completed=step + 1)
        self._bars.remove_task(task)


def _can_write(text: str, out: Console) -> bool:
    try:
        text.encode(out.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _text(cell: Cell | None, between: str) -> Text:
    if cell is None:
        return Text()
    marks = (symbol for symbol, _ in marks_of(cell))
    text = " ".join([text_of(cell, between, _STYLE), *marks]).strip()
    return Text(text, style="bold" if cell.entry.best else "")
