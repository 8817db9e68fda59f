"""Text and tables on a terminal, safe against control sequences in names."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table as Grid
from rich.text import Text

from unlearnable_bench.reports._sheet import Cell, arrange, marks_of, text_of
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import Table

if TYPE_CHECKING:
    from unlearnable_bench.planning import plan
    from unlearnable_bench.results.robustness import Robustness

_STYLE = TableStyle()


def terminal(*, stderr: bool = False) -> Console:
    """Return a console that prints square brackets and colons literally."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(out: Console, text: str, *, prefix: str = "") -> None:
    """Print one line without control characters; the terminal wraps it."""
    out.print(Text(prefix + printable(text)), soft_wrap=True)


def say_done(out: Console, item: "plan.Cell | plan.Probe", result: "Record | Robustness") -> None:
    """Print a line about a finished cell or probe."""
    seconds = sum(result.seconds.values())
    say(out, f"done: {item.name}: {_figure_of(result)} in {seconds:.0f} s")


def _figure_of(result: "Record | Robustness") -> str:
    if isinstance(result, Record):
        return f"{result.test_accuracy:.1f} %"
    return f"loss {result.surrogate_loss:.3g} (surrogate), {result.noise_loss:.3g} (reference)"


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
    if sheet.below:
        say(out, sheet.below)


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


def bars(out: Console) -> Bars:
    """Return progress bars, which are removed at the end."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Bars(*columns, console=out, transient=True)


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


@dataclass
class _Loop:
    label: str
    total: int
    began: float  # time at the first step, from which the rate is counted
    first: int | None = None
    done: int = 0
    at: float = 0.0  # time at the last finished step

    def __str__(self) -> str:
        text = f"{printable(self.label)}, {self.done} of {self.total} steps"
        steps, seconds = self.done - (self.first or 0), self.at - self.began
        if steps < 1 or seconds <= 0:
            return text
        rate = steps / seconds
        pace = f"{rate:.3g} steps/s" if rate >= 1 else f"{1 / rate:.3g} s/step"
        return f"{text}, {pace}, {duration((self.total - self.done) / rate)} left"


class Log:
    """Progress in a file: one line early, then one a minute, for as long as it is entered."""

    def __init__(self, out: Console, first: float = 10.0, every: float = 60.0) -> None:
        self._out, self._pauses = out, chain([first], repeat(every))
        self._loops: list[_Loop] = []
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._print, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`, of which the first is above 0 in a resumed run."""
        loop = _Loop(label, total, time.monotonic())
        self._loops.append(loop)
        try:
            for step in steps:
                if loop.first is None:
                    loop.first = loop.done = step
                yield step
                loop.done, loop.at = step + 1, time.monotonic()
        finally:
            self._loops.remove(loop)

    def _print(self) -> None:
        for pause in self._pauses:
            if self._over.wait(pause):
                return
            spent = duration(time.monotonic() - self._began)
            loops = "; ".join(map(str, self._loops)) or "preparing, testing or waiting"
            say(self._out, f"after {spent}: {loops}")


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours, whichever has two or three digits."""
    if seconds > 90 * 60:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


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
