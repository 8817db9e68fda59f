"""The check that protection works: learners trained on the originals and on the written files."""

import io
import math
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Random
from unlearnable_bench.harness.progress import Progress, Renamed, Silent
from unlearnable_bench.images import ImageSet, Labels, Pixels
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Cell, Plan
from unlearnable_bench.protecting.carrying import resized
from unlearnable_bench.protecting.pictures import read
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.executor import OnDone, execute

SHARE = 5  # one picture in so many is held out
LARGEST = 2000  # pictures that the check trains on and tests with
_PASSES = 24_000  # pictures that a learner sees in training, about
_LEAST_EPOCHS, _MOST_EPOCHS = 8, 60
_ENOUGH = 50  # held-out pictures: of fewer, one makes more than two points
_QUALITY = 75  # of the JPEG view
_PLAIN = "resized"
_JPEG = f"JPEG, quality {_QUALITY}"
LOSSLESS = "lossless copy, resized"


@dataclass(frozen=True)
class Row:
    """Accuracy of one learner on held-out originals, in percent.

    Attributes:
        view: what the trainer does with the pictures before training.
        learner: the architecture.
        clean: after training on the originals.
        protected: after training on the written files.
    """

    view: str
    learner: str
    clean: float
    protected: float


def _cropped(pixels: Pixels, size: int, random: np.random.Generator) -> Pixels:
    """Return a random square of the picture, whose short side is scaled to 5/4 of the square."""
    height, width = pixels.shape[:2]
    scale = 1.25 * size / min(height, width)
    wide, high = (max(size, round(scale * side)) for side in (width, height))
    scaled = Image.fromarray(pixels).resize((wide, high), Image.Resampling.BILINEAR)
    top, left = random.integers(high - size + 1), random.integers(wide - size + 1)
    return np.asarray(scaled)[top : top + size, left : left + size]


def _compressed(pixels: Pixels) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
    return np.asarray(Image.open(stream))


# What trainers do with a picture: of its own pixels, the trained size and random numbers that are
# the same for the original and its protected copy.
_View = Callable[[Pixels, int, np.random.Generator], Pixels]
VIEWS: dict[str, _View] = {
    _PLAIN: lambda pixels, size, _random: resized(pixels, size),
    "resized and cropped": _cropped,
    "3x3 mean filter, resized": lambda pixels, size, _random: resized(
        np.asarray(cv2.blur(pixels, (3, 3)), np.uint8), size
    ),
    f"{_JPEG}, resized": lambda pixels, size, _random: resized(_compressed(pixels), size),
}


def held_out(labels: Labels, seed: int, tested: int | None = None) -> tuple[Labels, Labels]:
    """Return the indices of training and of held-out pictures: a fifth of each class, at random.

    Of many pictures, an equal share of each class is used.

    Args:
        labels: int64 [N].
        seed: seed of the choice.
        tested: number of classes, the first ones, whose held-out pictures are returned; None: all.
    """
    random = Random(seed, "held-out pictures")
    share = min(1.0, LARGEST / len(labels))
    train: list[int] = []
    test: list[int] = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        own = own[random.permutation(len(own)).numpy()][: max(SHARE, math.ceil(share * len(own)))]
        held = max(1, len(own) // SHARE)
        test += own[:held].tolist() if tested is None or label < tested else []
        train += own[held:].tolist()
    return np.array(sorted(train), np.int64), np.array(sorted(test), np.int64)


def check(
    pairs: Sequence[tuple[Path, Path]],
    labels: Labels,
    class_names: Sequence[str],
    folder: Path,
    device: torch.device,
    *,
    learners: Sequence[str],
    size: int,
    seed: int,
    others: ImageSet | None = None,
    tested: int | None = None,
    exact: Callable[[int], Pixels] | None = None,
    progress: Progress | None = None,
    on_cell: OnDone = lambda _item, _result: None,
) -> list[Row]:
    """Train learners on the originals and on the protected files, and test them on originals.

    Args:
        pairs: the original and the protected file of each picture.
        labels: int64 [N].
        class_names: a name for each class, of `others` too.
        folder: results folder, whose finished cells are reused.
        device: the CPU or a GPU.
        learners: names of architectures.
        size: height and width in pixels of the pictures in training.
        seed: seed of the held-out pictures and of training.
        others: training images of further classes of this size, the same in both cases.
        tested: number of classes, the first ones, whose held-out originals are tested; None: all.
        exact: returns the protected pixels of a picture that its file lost, for a row `LOSSLESS`.
        progress: display of the loops.
        on_cell: called with each finished cell and its record.

    Raises:
        UserError: a learner that cannot be trained.
    """
    show = progress or Silent()
    train, test = held_out(labels, seed, tested)
    pictures = [
        resized(read(pairs[test[k]][0]).pixels, size)
        for k in show.track("reading originals", len(test), range(len(test)))
    ]
    clean, protected = _views(pairs, train, size, show, exact)
    sets = {"y_train": labels[train], "x_test": np.stack(pictures), "y_test": labels[test]}
    extra = _Extra(others)
    store = ResultsFolder(folder, create=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in protected:
            plan = _plan(
                Path(scratch) / _stem(name),
                extra.added(sets | {"x_train": clean[name]}, class_names),
                extra.with_train(protected[name]),
                learners,
                seed,
            )
            titles = {cell.name: described(cell) for cell in plan.cells}
            execute(plan, store, device, Renamed(titles, show), on_cell)
            frame = load_records(folder, [cell.key for cell in plan.cells])
            for learner, part in frame.groupby("learner", sort=False):
                found = dict(zip(part["attack"], part["test_accuracy"], strict=True))
                if len(found) < len(plan.cells) // len(learners):
                    raise UserError(f"the check of {learner} failed: ubench report {folder}")
                # Without a cell of its own, the view has removed every trace of the noise.
                clean_accuracy = float(found["clean"])
                rows.append(
                    Row(
                        name,
                        str(learner),
                        clean_accuracy,
                        float(found.get("protected", clean_accuracy)),
                    )
                )
    return rows


def described(cell: Cell) -> str:
    """Return what a cell of the check trains, such as `resnet8 on the originals, resized`."""
    data = cell.poison.data.name.removeprefix("npz:")
    view = next((name for name in (*VIEWS, LOSSLESS) if _stem(name) == data), data)
    which = "originals" if cell.method == "clean" else "protected pictures"
    return f"{cell.learner.label} on the {which}, {view}"


def _stem(view: str) -> str:
    """Return the name of the file that holds a view."""
    return re.sub(r"\W+", "-", view)


def _views(
    pairs: Sequence[tuple[Path, Path]],
    train: Labels,
    size: int,
    show: Progress,
    exact: Callable[[int], Pixels] | None,
) -> tuple[dict[str, Pixels], dict[str, Pixels]]:
    """Return each view of the training pictures, original and protected, uint8 [N, S, S, 3]."""
    clean: dict[str, list[Pixels]] = {}
    protected: dict[str, list[Pixels]] = {}
    for position in show.track("preparing", len(train), range(len(train))):
        k = int(train[position])
        for part, file in zip((clean, protected), pairs[k], strict=True):
            pixels = read(file).pixels
            for name, view in VIEWS.items():
                seen = view(pixels, size, np.random.default_rng(k))
                part.setdefault(name, []).append(seen)
        if exact:
            clean.setdefault(LOSSLESS, []).append(clean[_PLAIN][-1])
            protected.setdefault(LOSSLESS, []).append(resized(exact(k), size))
    return _stacked(clean), _stacked(protected)


def _stacked(parts: dict[str, list[Pixels]]) -> dict[str, Pixels]:
    return {name: np.stack(images) for name, images in parts.items()}


def verdict(rows: Sequence[Row], classes: int, tested: int) -> str:
    """Return what the figures of the check mean.

    Args:
        rows: from `check`.
        classes: number of classes of the task.
        tested: number of held-out pictures.
    """
    found = _verdict(rows, classes)
    if tested >= _ENOUGH:
        return found
    held = "one held-out picture it" if tested == 1 else f"{tested} held-out pictures one of them"
    return f"{found} With {held} makes {100 / tested:.0f} points, so these figures are rough."


def _verdict(rows: Sequence[Row], classes: int) -> str:
    chance = 100 / classes
    if max(row.clean for row in rows if row.view == _PLAIN) < min(2 * chance, 60 + chance / 2):
        return (
            "The networks learn too little from the originals to show anything: close to the "
            f"{chance:.0f} % of guessing. More pictures or fewer classes are needed."
        )
    drops = [row.clean - row.protected for row in rows if not row.view.startswith(_JPEG)]
    if min(drops) >= 30:
        return (
            f"Protection works on these networks: accuracy is at least {min(drops):.0f} points "
            "lower, also after resizing, cropping and a 3x3 mean filter."
        )
    if np.mean(drops) < 10:
        return (
            "These figures show no useful protection. Classes that differ in plain ways, such as "
            "colour, are learned in spite of noise; try --strength 16/255 or another --method."
        )
    return (
        f"Protection is partial: accuracy changes by {-max(drops):+.0f} to {0 - min(drops):+.0f} "
        f"points, {0 - np.mean(drops):+.0f} on average. Try --strength 16/255 or another --method."
    )


def jpeg_loss(rows: Sequence[Row]) -> str:
    """Return how much protection the files lose because they are JPEG; the rows have `LOSSLESS`."""
    files = {row.learner: row for row in rows if row.view == _PLAIN}
    parts = [
        f"{files[exact.learner].protected:.1f} % instead of {exact.protected:.1f} % "
        f"for {exact.learner}"
        for exact in rows
        if exact.view == LOSSLESS
    ]
    return (
        f"The cost of JPEG: accuracy {', '.join(parts)}, after training on the files instead of "
        "lossless copies. PNG and WebP hold all of the noise."
    )


@dataclass(frozen=True)
class _Extra:
    """Training images of further classes. Accuracy is that of the user's own pictures."""

    others: ImageSet | None

    def added(self, sets: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        found = sets | {"class_names": np.array(names)}
        if self.others is None:
            return found
        found["x_train"] = self.with_train(sets["x_train"])
        found["y_train"] = np.concatenate([sets["y_train"], self.others.labels[self._chosen]])
        return found

    def with_train(self, images: Pixels) -> Pixels:
        if self.others is None:
            return images
        return np.concatenate([images, self.others.images[self._chosen]])

    @property
    def _chosen(self) -> NDArray[np.bool_]:
        """Four fifths, as of the user's pictures, of which a fifth is held out."""
        chosen: NDArray[np.bool_] = np.arange(len(self.others or ())) % SHARE != 0
        return chosen


def _plan(
    stem: Path, sets: dict[str, Any], protected: Pixels, learners: Sequence[str], seed: int
) -> Plan:
    data, poison = stem.with_suffix(".npz"), stem.with_suffix(".npy")
    np.savez(data, **sets)
    np.save(poison, protected)
    changed = not np.array_equal(protected, sets["x_train"])
    return make_plan(
        methods=["clean", *([f"protected=file:{poison}"] if changed else [])],
        dataset=f"npz:{data}",
        preset="smoke",
        learners=learners,
        seeds=[seed],
        rho_u=[Radius("255/255")] if changed else [],
        settings={"training.epochs": _epochs(len(protected))},
    )


def _epochs(images: int) -> int:
    return min(_MOST_EPOCHS, max(_LEAST_EPOCHS, round(_PASSES / images)))
