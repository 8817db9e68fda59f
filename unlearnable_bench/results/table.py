"""A table as data: what every format prints, and every number's way back to its records."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from unlearnable_bench.results.names import display
from unlearnable_bench.results.style import TableStyle

Mark = Literal["failed", "missing", "fewer", "collapsed", "resumed", "mixed"]
# What a mark means, for the line below a table.
MARKS: Mapping[str, tuple[str, str]] = {
    "failed": ("!", "some or all seeds failed (see the report failures)"),
    "missing": ("?", "not all cells that were asked for are finished"),
    "fewer": ("n", "fewer seeds than other entries"),
    "collapsed": ("~", "training collapsed: the learner is at chance on its own training images"),
    "resumed": ("r", "interrupted and resumed: seconds add up the parts"),
    "mixed": ("m", "seeds of different cards or versions"),
}

_PLAIN = TableStyle()


@dataclass(frozen=True)
class Entry:
    """One entry: a mean over seeds, in its column's unit, or a text in its place.

    Attributes:
        mean: of the seeds; None where there is no number.
        std: sample standard deviation; 0 for one seed.
        seeds: number of seeds.
        interval: 95 % confidence interval of the mean; None below three seeds.
        peak: mean of the highest accuracy over epochs, where that was asked for.
        best: whether the entry is printed bold.
        marks: what is to be said of it, in the order of `MARKS`.
        text: printed in place of the number.
        keys: of the records that it comes from; without a number, of the cells that lack one.
        seed_values: of each seed, in the order of `keys`.
    """

    mean: float | None = None
    std: float = 0.0
    seeds: int = 1
    interval: tuple[float, float] | None = None
    peak: float | None = None
    best: bool = False
    marks: tuple[Mark, ...] = ()
    text: str | None = None
    keys: tuple[str, ...] = ()
    seed_values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        heading: as it is printed.
        digits: decimal places; None: those of the style.
        math: whether a format may set the heading's last word as mathematics (`rho_a 4/255`).
        value: the value on the axis, such as `4/255` or `jpeg`.
    """

    heading: str
    value: str = ""
    digits: int | None = None
    math: bool = False


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        label: as records have it.
        entries: one a column.
        note: what is added to its name in brackets: an unusual budget.
        budget: radius of its noise, `8/255`, for the column that a style can ask for.
        versus: label of the method that it is compared with, in a table of pairs.
    """

    label: str
    entries: tuple[Entry | None, ...]
    note: str = ""
    budget: str = ""
    versus: str = ""

    def name(self, aliases: Mapping[str, str] = {}) -> str:
        """Return the row's name as it is printed: `SC (L2 1.3)`, `SEM vs REM`."""
        name = display(self.label, aliases)
        if self.versus:
            name += f" vs {display(self.versus, aliases)}"
        return f"{name} ({self.note})" if self.note else name


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of the report that it belongs to, `main`.
        caption: what the numbers are: `Clean test accuracy (%)`.
        title: what all its cells share: data set, learner, preset, a defense.
        columns: its columns.
        rows: its rows, controls first.
        corner: heading of the rows.
        notes: sentences for below: seeds, what is bold, what differs.
    """

    name: str
    caption: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    corner: str = "Method"
    notes: tuple[str, ...] = field(default=())

    @property
    def entries(self) -> list[Entry]:
        """Every entry that is there, row by row."""
        return [entry for row in self.rows for entry in row.entries if entry is not None]

    @property
    def marks(self) -> list[Mark]:
        """The marks that its entries carry, each once, in the order of `MARKS`."""
        found = {mark for entry in self.entries for mark in entry.marks}
        return [mark for mark in MARKS if mark in found]

    def transposed(self) -> "Table":
        """Return rows as columns, and columns as rows."""
        columns = tuple(Column(row.name(), row.label) for row in self.rows)
        rows = tuple(
            Row(column.heading, tuple(row.entries[k] for row in self.rows))
            for k, column in enumerate(self.columns)
        )
        return replace(self, columns=columns, rows=rows, corner="")


def entry_text(
    entry: Entry, plus_minus: str, style: TableStyle = _PLAIN, digits: int | None = None
) -> str:
    """Return `16.2`, or `16.2 +- 0.3` of several seeds, and ` (n=2)` where others have more.

    With the peak of training, `16.2 / 31.0`. A mark stands behind: `16.2 !`.

    Args:
        entry: the entry.
        plus_minus: what stands before a deviation, with its blanks.
        style: digits, spread and peak.
        digits: decimal places of its column, in place of the style's.
    """
    if entry.text is not None:
        return entry.text
    marks = "".join(f" {MARKS[mark][0]}" for mark in entry.marks if mark != "fewer")
    if entry.mean is None:
        return marks.strip()
    places = style.digits if digits is None else digits
    text = f"{entry.mean:z.{places}f}"
    if style.spread == "std" and entry.seeds > 1:
        text += f"{plus_minus}{entry.std:.{places}f}"
    if style.spread == "interval" and entry.interval:
        low, high = entry.interval
        text += f" [{low:.{places}f}, {high:.{places}f}]"
    if style.peak and entry.peak is not None:
        text += f" / {entry.peak:.{places}f}"
    return text + (f" (n={entry.seeds})" if "fewer" in entry.marks else "") + marks
