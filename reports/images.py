"""Figure: clean images, magnified noise and poisoned images of each method."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import option
from unlearnable_bench.reports import _figure as figures
from unlearnable_bench.reports import _series as series
from unlearnable_bench.reports._samples import stored_samples
from unlearnable_bench.results.samples import Strip, read_strip

Pixels = NDArray[np.uint8]
_MOST_ROWS = 24
_SHORTEST, _LONGEST = 13, 24  # letters in a line of a name
_NAME, _LETTER = 17.0, 1.3  # mm: width of the names of methods, and of each letter above 13
_LINE = 3.1  # mm: height of a line of a name
_GAP = 2  # pixels between images of 32 px


@dataclass(frozen=True, kw_only=True)
class Images(figures.FigureReport):
    """Clean images, noise and poisoned images, one row per method (the SEM paper's Figure 4).

    Grey means no noise. The magnification of the noise is in the heading, or below the names if
    methods differ.
    """

    count: int = option(2, "number of images per method", minimum=1, maximum=16)
    magnify: int = option(
        0, "magnification of the noise; 0: per method, the largest that clips nothing", minimum=0
    )

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return the figure.

        Raises:
            UserError: no stored images of a poison, or a damaged file.
        """
        rows, lacking = _rows(frame, self.magnify, self.names)
        if len(rows) > _MOST_ROWS:
            raise UserError(
                f"images would have {len(rows)} rows, but at most {_MOST_ROWS} fit; select with "
                "--datasets, --presets or --methods"
            )
        letters = _letters(row["method"] for row, _ in rows)
        names = _NAME + _LETTER * (letters - _SHORTEST)
        side = (self.width - names - 6) / (3 * self.count)
        missing = figures.literal(
            f"No images of: {', '.join(lacking)}",
            width=int(0.7 * self.width),
            lines=figures.NOTE_LINES,
        )
        with figures.house_style():
            titles = [*dict.fromkeys(row["panel"] for row, _ in rows)]
            texts = [_label(row, rows, letters) for row, _ in rows]
            # A long name needs more room than its images.
            pitch = max(side, _LINE * max(text.count("\n") + 1 for text in texts)) + 1.5
            height = len(rows) * pitch + 9 * len(titles)
            height += (1 + _LINE * (missing.count("\n") + 1)) if lacking else 0
            made = figures.figure(self.width, height)
            shares = [sum(row["panel"] == title for row, _ in rows) for title in titles]
            parts = made.subfigures(len(titles), 1, height_ratios=shares, squeeze=False)[:, 0]
            for title, part in zip(titles, parts, strict=True):
                mine = [(row, strip) for row, strip in rows if row["panel"] == title]
                part.suptitle(figures.literal(title, width=56), fontsize=8)
                labels = [_label(row, rows, letters) for row, _ in mine]
                _draw(part.subplots(len(mine), 3, squeeze=False), mine, labels, self.count)
            if lacking:
                made.supxlabel(missing, fontsize=7)
            return figures.done(made)


def images_data(
    frame: pd.DataFrame, *, magnify: int = 0, aliases: Mapping[str, str] = {}
) -> pd.DataFrame:
    """Return the images of the figure.

    Columns: panel, method, attack, rho_u; largest, the largest change in levels of 1/255 among the
    stored images; magnification, the factor of the noise; folder and poison, the arguments of
    `read_strip`; key of the record.

    Args:
        frame: from `load_records`.
        magnify: factor of the noise; 0: the largest that clips nothing.
        aliases: label to name.

    Raises:
        UserError: no stored images of a poison, or a damaged file.
    """
    return pd.DataFrame([row for row, _ in _rows(frame, magnify, aliases)[0]])


def _rows(
    frame: pd.DataFrame, magnify: int, aliases: Mapping[str, str]
) -> tuple[list[tuple[dict[str, Any], Strip]], list[str]]:
    found, lacking = stored_samples(series.cells(frame, aliases), read_strip, "images", aliases)
    rows = []
    for cell, strip in found:
        largest = int(np.abs(strip.noise).max())
        row = {name: cell[name] for name in ("panel", "method", "attack", "rho_u")}
        row |= {"largest": largest, "magnification": magnify or max(1, 127 // max(1, largest))}
        row |= {name: cell[name] for name in ("folder", "poison", "key") if name in cell}
        rows.append((row, strip))
    return rows, lacking


def magnified(noise: NDArray[np.int16], factor: int) -> Pixels:
    """Return noise as images, uint8 of the same shape, with 128 for no noise.

    Args:
        noise: levels of 1/255.
        factor: magnification before clipping.
    """
    return np.clip(128 + factor * noise.astype(np.int64), 0, 255).astype(np.uint8)


def side_by_side(images: Pixels) -> Pixels:
    """Return images [n, H, W, 3] as one picture, separated by white."""
    count, height, width, _ = images.shape
    gap = max(1, _GAP * width // 32)
    picture = np.full((height, count * width + (count - 1) * gap, 3), 255, np.uint8)
    for k, image in enumerate(images):
        picture[:, k * (width + gap) : k * (width + gap) + width] = image
    return picture


def _factors(rows: list[tuple[dict[str, Any], Strip]]) -> set[int]:
    return {row["magnification"] for row, _ in rows}


def _letters(names: Iterable[str]) -> int:
    """Return the letters in a line of a name: those of the longest word, if they fit."""
    longest = max(len(word) for name in names for word in name.split())
    return min(max(longest, _SHORTEST), _LONGEST)


def _label(row: dict[str, Any], rows: list[tuple[dict[str, Any], Strip]], letters: int) -> str:
    """Return a method's name, with its magnification unless the heading has it."""
    name = figures.literal(row["method"], width=letters, lines=figures.NAME_LINES)
    return name if len(_factors(rows)) == 1 else f"{name}\nx {row['magnification']}"


def _draw(
    axes: "NDArray[Any]", rows: list[tuple[dict[str, Any], Strip]], labels: list[str], count: int
) -> None:
    for line, (row, strip), label in zip(axes, rows, labels, strict=True):
        noise = magnified(strip.noise[:count], row["magnification"])
        shown = strip.clean[:count], noise, strip.poisoned[:count]
        for ax, images in zip(line, shown, strict=True):
            _show(ax, side_by_side(images))
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
    factors = _factors(rows)
    noise_heading = f"Noise x {min(factors)}" if len(factors) == 1 else "Noise, magnified"
    for ax, heading in zip(axes[0], ("Clean", noise_heading, "Poisoned"), strict=True):
        ax.set_title(heading, loc="center", fontsize=7)


def _show(ax: Axes, picture: Pixels) -> None:
    ax.imshow(picture)
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
