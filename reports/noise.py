"""Figure: the noise of each method, embedded in two dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import option
from unlearnable_bench.reports import _figure as figures
from unlearnable_bench.reports import _series as series
from unlearnable_bench.reports._samples import stored_samples
from unlearnable_bench.results.samples import read_noise

Embedding = Literal["pca", "tsne"]
Points = NDArray[np.float64]
_AXES = {"pca": "PC", "tsne": "t-SNE"}


@dataclass(frozen=True, kw_only=True)
class Noise(figures.FigureReport):
    """Samples of the noise of each method in two dimensions, one panel per data set and preset.

    PCA is reproducible up to rounding. t-SNE has a fixed seed, but its result can change with the
    number of threads (OMP_NUM_THREADS), the machine and the version of scikit-learn; distances
    between its clusters are not meaningful.
    """

    embedding: Embedding = option(
        "pca", "projection: pca, or tsne, whose result depends on the machine"
    )
    samples: int = option(100, "noise samples per method, 1 to 256", minimum=1, maximum=256)

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return the figure.

        Raises:
            UserError: no stored noise of a poison, a damaged file, or too few noise samples.
        """
        found = series.cells(frame, self.names)
        data, lacking = _data(found, self.embedding, self.samples, self.names)
        looks = figures.looks(series.pairs_of(found))
        titles = [*dict.fromkeys(data["panel"])]
        note = f"At most {self.samples} samples per method."
        note += f" No noise of: {', '.join(lacking)}." if lacking else ""
        with figures.house_style():
            made, axes = figures.panels(titles, "noise", self.width, 60)
            for title, ax in zip(titles, axes, strict=True):
                _draw(ax, data[data["panel"] == title], looks, _AXES[self.embedding])
            figures.method_legend(made, data, looks, note.strip(), line=False)
            return figures.done(made)


def noise_data(
    frame: pd.DataFrame,
    *,
    embedding: Embedding = "pca",
    samples: int = 100,
    aliases: Mapping[str, str] = {},
) -> pd.DataFrame:
    """Return the points of the figure.

    Columns: panel, method, attack, rho_u; x, y, coordinates of one noise, for PCA in units of the
    pixel range; share_x, share_y, the share of the variance along each axis, 0 to 1 (NaN for
    t-SNE); key of the record.

    Args:
        frame: from `load_records`.
        embedding: `pca` or `tsne`.
        samples: noise samples per method.
        aliases: label to name.

    Raises:
        UserError: as `Noise.render`.
    """
    return _data(series.cells(frame, aliases), embedding, samples, aliases)[0]


def _data(
    cells: pd.DataFrame, embedding: Embedding, samples: int, aliases: Mapping[str, str]
) -> tuple[pd.DataFrame, list[str]]:
    found, lacking = stored_samples(cells, read_noise, "noise", aliases)
    tables = []
    for title in dict.fromkeys(cell["panel"] for cell, _ in found):
        mine = [(cell, noise[:samples]) for cell, noise in found if cell["panel"] == title]
        flat = np.concatenate([noise.reshape(len(noise), -1) / 255.0 for _, noise in mine])
        points, shares = embedded(flat, embedding)
        names = ("panel", "method", "attack", "rho_u", "key")
        labels = [
            {name: cell[name] for name in names if name in cell}
            for cell, noise in mine
            for _ in noise
        ]
        table = pd.DataFrame(labels).assign(x=points[:, 0], y=points[:, 1])
        tables.append(table.assign(share_x=shares[0], share_y=shares[1]))
    return pd.concat(tables, ignore_index=True), lacking


def embedded(noises: Points, embedding: Embedding) -> tuple[Points, tuple[float, float]]:
    """Return noises in two dimensions and the share of the variance along each axis.

    Args:
        noises: [n, d].
        embedding: `pca` or `tsne`.

    Raises:
        UserError: too few noise samples.
    """
    few = 3 if embedding == "pca" else 5
    if len(noises) < few:
        raise UserError(
            f"{embedding} needs at least {few} noise samples, got {len(noises)}; raise samples"
        )
    # sklearn is slow to import, and only this figure needs it.
    if embedding == "tsne":
        from sklearn.manifold import TSNE  # noqa: PLC0415

        perplexity = min(30.0, (len(noises) - 1) / 3)
        model = TSNE(random_state=0, init="random", perplexity=perplexity)
        return model.fit_transform(noises).astype(np.float64), (float("nan"), float("nan"))
    if (noises == noises[0]).all():  # otherwise rounding of the mean is the whole variance
        return np.zeros((len(noises), 2)), (0.0, 0.0)
    total = float(((noises - noises.mean(axis=0)) ** 2).sum())
    from sklearn.decomposition import PCA  # noqa: PLC0415

    points = PCA(2, svd_solver="full").fit_transform(noises)
    shares = (points**2).sum(axis=0) / total
    return points, (float(shares[0]), float(shares[1]))


def _draw(
    ax: Axes, data: pd.DataFrame, looks: Mapping[tuple[str, str], figures.Look], name: str
) -> None:
    for pair, one in series.by_method(data):
        style: dict[str, Any] = looks[pair].dots()
        ax.plot(one["x"], one["y"], **style, markersize=2.5, alpha=0.7, markeredgewidth=0)
    for axis, number, share in ((ax.xaxis, 1, "share_x"), (ax.yaxis, 2, "share_y")):
        explained = data[share].iloc[0]
        part = f" ({100 * explained:.1f} % of variance)" if np.isfinite(explained) else ""
        axis.set_major_locator(MaxNLocator(5))
        axis.set_label_text(f"{name} {number}{part}")
