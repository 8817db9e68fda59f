"""Common parts of all figures: size, text, colours, markers, legend, and saving.

Figures are `matplotlib.figure.Figure` objects without pyplot, so that open figures of a notebook
and threads of a server are not affected. A user's matplotlibrc is ignored.
"""

import io
import math
import textwrap
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import matplotlib.style
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from unlearnable_bench import Report
from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.options import option
from unlearnable_bench.results.aggregate import CONTROLS
from unlearnable_bench.results.names import parse_aliases

COLUMN_WIDTH = 86.0  # mm: one column of a two-column paper
MOST_PANELS = 12
_EQUALS = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
_MOST_LINES = 3  # of a title; longer ones are truncated
NOTE_LINES = 12  # of a note, such as the rows without images
NAME_LINES = 8  # of a row's name, whose end may be all that differs
_INCH = 25.4  # mm
_PANEL_WIDTH = 70.0  # mm: least width of a panel when several are next to each other
# Matplotlib ships these, so every machine draws the same letters.
_FONTS = ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "STIXGeneral")
_RC: Mapping[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "0.3",
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.dpi": 150,
    "font.family": list(_FONTS),
    "font.size": 8,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.title_fontsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "svg.hashsalt": "unlearnable-bench",
    "text.parse_math": False,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}
_METADATA: Mapping[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "png": {},
    "svg": {"Date": None},
}
_RESOLUTION = 300  # dots per inch of a PNG

# Okabe and Ito's colours without yellow, which is too light for a line, and black.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7A4B00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "h", ">", "d")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1, 3, 1, 1, 1)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 2)),
)
_GREYS = ("0.25", "0.5", "0.7")
_CONTROL_MARKERS = ("*", "p", "8")

_settings_lock = threading.RLock()


@dataclass(frozen=True, kw_only=True)
class FigureReport(Report):
    """Base class of reports that return a figure: width and names."""

    width: float = option(
        COLUMN_WIDTH, "width of the figure in mm, 40 to 400", minimum=40, maximum=400
    )
    aliases: str = option("", "names to print instead of labels, e.g. sem=Ours,em=EM*")

    @property
    def names(self) -> dict[str, str]:
        """Return the aliases, label to name."""
        return parse_aliases(self.aliases)


@dataclass(frozen=True)
class Look:
    """Line and marker of one method, distinct from all others in colour and in grey."""

    color: str
    marker: str
    linestyle: Any

    def line(self) -> dict[str, Any]:
        """Return the arguments of `Axes.plot` and `Line2D`."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}

    def dots(self) -> dict[str, Any]:
        """Return the arguments of a line with markers only."""
        return self.line() | {"linestyle": "none"}


@contextmanager
def house_style() -> Iterator[None]:
    """Use our matplotlib settings temporarily, and restore the user's."""
    with _settings_lock, matplotlib.style.context(["default", dict(_RC)]):
        yield


def look(k: int, *, control: bool = False) -> Look:
    """Return the k-th look; line style and marker together do not repeat within 88 methods.

    Args:
        k: 0, 1, ...: index of the method among methods, or of the control among controls.
        control: whether it is a control, such as clean data: grey and dashed.
    """
    if control:
        n = k % len(_GREYS)
        return Look(_GREYS[n], _CONTROL_MARKERS[n], (0, (4 - n, 2)))
    markers, dashes = _MARKERS[k % len(_MARKERS)], _DASHES[k % len(_DASHES)]
    return Look(_COLOURS[k % len(_COLOURS)], markers, dashes)


def looks(labels: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Look]:
    """Return the look of each method, in the order in which they first appear.

    Args:
        labels: attack and rho_u of each cell of the whole frame, so that a method has the same
            colour in all panels and figures.
    """
    found: dict[tuple[str, str], Look] = {}
    count = {True: 0, False: 0}
    for label in dict.fromkeys(labels):
        control = label[0] in CONTROLS
        found[label] = look(count[control], control=control)
        count[control] += 1
    return found


@cache
def _letters() -> frozenset[int]:
    fonts = (get_font(findfont(FontProperties(family=[name]))) for name in _FONTS)
    return frozenset(code for font in fonts for code in font.get_charmap())


def literal(text: str, *, width: int | None = None, lines: int = _MOST_LINES) -> str:
    """Return a name that matplotlib can draw, for any text.

    Whitespace is collapsed. Characters that the fonts of matplotlib lack (Chinese, Japanese,
    Korean, Indic scripts, emoji) and control characters become their codes, `[U+4E2D U+6587]`; use
    an alias for such a name. Arabic, Cyrillic, Greek and Hebrew are drawn.

    Args:
        text: the name. `$`, `_` and backslashes are kept, because figures are drawn without TeX.
        width: number of letters per line; None: one line.
        lines: number of lines at most; the rest is truncated.
    """
    drawn, codes = [], []
    for letter in " ".join(text.split()):
        odd = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn")
        if odd or ord(letter) not in _letters():
            codes.append(f"U+{ord(letter):04X}")
            continue
        drawn += [f"[{' '.join(codes)}]"] * bool(codes) + [letter]
        codes = []
    drawn += [f"[{' '.join(codes)}]"] * bool(codes)
    line = "".join(drawn)
    if width is None:
        return line
    # A radius stays on one line: textwrap breaks at ordinary spaces only.
    whole = line.replace(" = ", _EQUALS)
    wrapped = textwrap.wrap(whole, width, max_lines=lines, placeholder="…")
    return "\n".join(wrapped).replace(_EQUALS, " = ")


def figure(width_mm: float = COLUMN_WIDTH, height_mm: float = 60.0) -> Figure:
    """Return an empty figure with automatic layout; draw on it within `house_style`."""
    return Figure((width_mm / _INCH, height_mm / _INCH), layout="constrained")


def panels(
    titles: Sequence[str], report: str, width_mm: float, height_mm: float, margin_mm: float = 12.0
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one titled panel per setting, next to each other if they fit.

    Args:
        titles: titles of the panels.
        report: name of the report, for the message.
        width_mm: width of the figure in mm.
        height_mm: height of a panel in mm.
        margin_mm: width of the labels to the left of a panel in mm, so that titles are not clipped.

    Raises:
        UserError: more panels than fit on a page.
    """
    if len(titles) > MOST_PANELS:
        raise UserError(
            f"{report} would have {len(titles)} panels, but at most {MOST_PANELS} fit; select "
            "with --datasets, --learners, --presets, --defenses or --rho-a"
        )
    columns = min(len(titles), max(1, int(width_mm // _PANEL_WIDTH)))
    rows = math.ceil(len(titles) / columns)
    made = figure(width_mm, rows * height_mm)
    axes = list(made.subplots(rows, columns, squeeze=False).flat)
    for panel, title in zip(axes, titles, strict=False):
        panel.set_title(literal(title, width=_letters_in(width_mm / columns - margin_mm, 8)))
    for panel in axes[len(titles) :]:
        panel.remove()
    return made, axes[: len(titles)]


def _letters_in(width_mm: float, points: float) -> int:
    """Return approximately how many letters of a size fit into a width."""
    return max(8, int(width_mm / (0.2 * points)))


def legend(made: Figure, entries: Sequence[tuple[str, Artist]], note: str = "") -> None:
    """Add a legend below the panels, in as many columns as fit, and enlarge the figure for it.

    Args:
        made: the figure.
        entries: names and their line or marker.
        note: sentence above the entries: seeds, intervals.
    """
    width, height = made.get_size_inches()
    letters = _letters_in(float(width) * _INCH - 14, 7)
    names = [literal(name, width=letters) for name, _ in entries]
    handles = [artist for _, artist in entries]
    renderer: Any = FigureCanvasAgg(made).get_renderer()  # type: ignore[no-untyped-call]
    for columns in range(min(len(names), 8), 0, -1):
        drawn = made.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=columns,
            title=literal(note, width=letters + 2, lines=NOTE_LINES),
            alignment="left",
            columnspacing=1.2,
            handlelength=2.8,
            labelspacing=0.35,
        )
        extent = drawn.get_window_extent(renderer)
        if extent.width <= 0.98 * float(width) * made.dpi or columns == 1:
            made.set_size_inches(float(width), float(height) + extent.height / made.dpi)
            return
        drawn.remove()


def method_legend(
    made: Figure,
    data: pd.DataFrame,
    looks_of: Mapping[tuple[str, str], Look],
    note: str = "",
    *,
    line: bool = True,
) -> None:
    """Add a legend of the methods below the panels, controls first.

    Args:
        made: the figure.
        data: data of the figure, with the columns attack, rho_u and method.
        looks_of: from `looks`.
        note: sentence above the entries.
        line: whether methods are lines with markers, or only markers.
    """
    found = data.drop_duplicates(["attack", "rho_u"])
    pairs = list(zip(found["attack"], found["rho_u"], strict=True))
    names = dict(zip(pairs, found["method"], strict=True))
    order = [pair for pair in looks_of if pair in names]  # in the order of the frame
    order.sort(key=lambda pair: pair[0] not in CONTROLS)
    legend(made, [(names[pair], key(looks_of[pair], line=line)) for pair in order], note)


def key(of: Look, *, line: bool = True) -> Line2D:
    """Return the legend entry of a method."""
    return Line2D([], [], **(of.line() if line else of.dots()))


def ticks_at(ax: Axes, labels: Mapping[float, str]) -> bool:
    """Put ticks at labelled values unless the labels overlap; return whether they fit.

    Args:
        ax: the axes, with their x scale set.
        labels: value to label.
    """
    values = sorted(labels)
    scale = math.log if ax.get_xscale() == "log" else float
    places = [scale(value) for value in values]
    longest = max(len(label) for label in labels.values())
    room = (places[-1] - places[0]) * max(4, longest) / 45
    if any(b - a < room for a, b in pairwise(places)):
        return False
    ax.set_xticks(values, [literal(labels[value]) for value in values])
    return True


def log_axis(ax: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, with plain numbers at decades, or at 1, 2 and 5 times them.

    Args:
        ax: the axes.
        low: smallest value shown, above 0.
        high: largest value shown.
    """
    ax.set_xscale("log")
    ax.set_xlim(low / 1.6, high * 1.6)
    few = high / low < 30
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def done(made: Figure) -> Figure:
    """Fix the layout, so that every format and every save looks the same."""
    made.draw_without_rendering()
    made.set_layout_engine("none")
    return made


def saved(made: Figure, form: Literal["pdf", "png", "svg"] | str) -> bytes:  # noqa: PYI051
    """Return a figure as a file without date or random parts, so that its bytes are reproducible.

    Args:
        made: the figure.
        form: `pdf` (fonts embedded as TrueType), `png` (300 dpi) or `svg` (text as outlines).

    Raises:
        UserError: an unknown format.
    """
    if form not in _METADATA:
        raise unknown("format of figures", form, _METADATA)
    file = io.BytesIO()
    with house_style():
        made.savefig(file, format=form, dpi=_RESOLUTION, metadata=_METADATA[form])
    return file.getvalue()
