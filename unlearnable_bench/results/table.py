"""A table as data: the content that every format prints, with the records of every number."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from unlearnable_bench.results.names import display
from unlearnable_bench.results.replicates import Design
from unlearnable_bench.results.style import TableStyle

Mark = Literal["failed", "missing", "fewer", "collapsed", "resumed", "mixed"]
# Symbol of each mark, and its meaning for the notes below a table.
MARKS: Mapping[str, tuple[str, str]] = {
    "failed": ("!", "some or all seeds failed (see the report failures)"),
    "missing": ("?", "some requested cells are not finished"),
    "fewer": ("n", "fewer seeds than other entries"),
    "collapsed": (
        "~",
        "training collapsed: the learner is at chance on its own training images; never bold",
    ),
    "resumed": ("r", "interrupted and resumed; seconds are the sum of the parts"),
    "mixed": ("m", "seeds ran on different devices or versions"),
}

_PLAIN = TableStyle()


@dataclass(frozen=True)
class Entry:
    """One entry: a mean over seeds in the unit of its column, or a text.

    Attributes:
        mean: mean over the seeds; None if there is no number.
        std: sample standard deviation; 0 for one seed.
        seeds: number of seeds: of independent values, if noise and training have different ones.
        interval: 95 % confidence interval of the mean; None below three seeds.
        peak: mean over seeds of the highest accuracy over epochs; None if unknown.
        best: whether the entry is printed bold.
        marks: marks of the entry, in the order of `MARKS`.
        text: text printed instead of the number.
        keys: keys of the records behind the number; without a number, of the unfinished cells.
        seed_values: the independent values; one per seed, in the order of `keys`.
        design: the seeds of noise and training, where they differ.
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
    design: Design | None = None

    @property
    def counted(self) -> int:
        """Number of seeds that the mark `fewer` compares: of the noise, if it has its own."""
        return self.design.noises if self.design else self.seeds


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        heading: as it is printed.
        digits: number of decimal places; None: the style's.
        math: whether a format may typeset the heading as mathematics (`rho_a 4/255`).
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
        label: label in the records.
        entries: one entry per column.
        note: text after the name in brackets: a budget other than 8/255.
        budget: radius of the noise, `8/255`, for the optional column `rho_u`.
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
        name: name of its report, such as `main`.
        caption: the quantity: `Clean test accuracy (%)`.
        title: the common setting: data set, learner, preset, a defense.
        columns: the columns.
        rows: the rows, controls first.
        corner: heading of the column of row names.
        notes: sentences below the table: seeds, bold entries, differences.
        needs: label and need of each method and defense that needs more than images and labels.
        sources: sentences with addresses, on where published figures are from.
    """

    name: str
    caption: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    corner: str = "Method"
    notes: tuple[str, ...] = field(default=())
    needs: tuple[tuple[str, str], ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def entries(self) -> list[Entry]:
        """All entries, row by row, without empty ones."""
        return [entry for row in self.rows for entry in row.entries if entry is not None]

    @property
    def marks(self) -> list[Mark]:
        """The marks of its entries, each once, in the order of `MARKS`."""
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
    """Return `16.2`; `16.2 +- 0.3` for several seeds; `16.2 (n=2)` if other entries have more.

    With the peak of training, `16.2 / 31.0`. A mark follows the number: `16.2 !`.

    Args:
        entry: the entry.
        plus_minus: separator before the standard deviation, with its spaces.
        style: digits, spread and peak.
        digits: number of decimal places, instead of the style's.
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
    return text + (f" (n={entry.counted})" if "fewer" in entry.marks else "") + marks
