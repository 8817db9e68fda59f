"""Autoregressive noise."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from unlearnable_bench import (
    Attack,
    Budget,
    Harness,
    ImageSet,
    Poison,
    Radius,
    Random,
    UserError,
    option,
)
from unlearnable_bench.images import Pixels
from unlearnable_bench.saved import read_arrays

Field = NDArray[np.float64]

CHANNELS = 512  # whose coefficients are drawn and tried together
_DRAWS = 400  # draws of that many before the search is given up: some 17,000 stable processes
_DROPPED = 4  # first rows and columns of a scan that are left out
_SEARCHED = 32  # smallest side of the patterns of the search, in pixels
_VALUES = 1 << 22  # values scanned together: 32 MB


@dataclass(frozen=True, kw_only=True)
class AR(Attack):
    """Autoregressive noise: one linear process per class (Sandoval-Segura et al., NeurIPS 2022).

    From two random rows and columns, each further value is a fixed linear combination of the 8
    values before it in a 3x3 window; the pattern is scaled to an L2 norm
    ([arXiv 2206.03693](https://arxiv.org/abs/2206.03693)). The coefficients are searched by the
    seed, or read from a file. No network; the budget is L2. `rho_u` scales to an L-infinity radius
    instead.
    """

    needs = "labels"

    surrogate: ClassVar[Literal["none"]] = "none"

    norm: float | None = option(
        None,
        "L2 norm of the noise in units of the pixel range; none: size / 32, so 1 at 32 px",
        minimum=0.01,
        when=("rho_u is none", lambda attack: attack.rho_u is None),
    )
    rho_u: Radius | None = option(
        None, "largest value of the noise, L-infinity; none: scaled to the L2 norm"
    )
    response: float | None = option(
        None,
        "smallest response of a process's pattern to the filters of the others; none: 10 up to "
        "10 classes, 3 up to 100, 300 / classes above",
        minimum=0,
        when=("coefficients is none", lambda attack: attack.coefficients is None),
    )
    coefficients: str | None = option(
        None,
        "file of the windows of the processes, [P, 3, 3, 3] with P of at least the number of "
        "classes, such as the authors' .pt lists; none: searched by the seed",
    )

    def fingerprint(self) -> str | None:
        """Return the SHA-256 of the file of coefficients, if there is one."""
        if self.coefficients is None:
            return None
        path = Path(self.coefficients)
        if not path.is_file():
            raise UserError(f"ar.coefficients={path}: no such file; give the path of the windows")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check(self, images: ImageSet) -> None:
        """Refuse images that are smaller than the window, and unusable coefficients.

        Raises:
            UserError: names both sizes, or the file and what is wrong with it.
        """
        if images.size < 3:
            raise UserError(
                f"ar has a window of 3x3 pixels, the images are {images.size} px; use larger images"
            )
        if self.coefficients is not None:
            _imported(Path(self.coefficients), images)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Search a process for each class, then add a pattern of it to each image."""
        return Poison(self._poisoned(images, harness, "noise"), self._budget(images))

    def function_of_class(
        self, images: ImageSet, poisoned: Pixels, harness: Harness
    ) -> Callable[[ImageSet], Pixels]:
        """Return the addition of other patterns of the processes, which the seed determines."""
        return lambda others: self._poisoned(others, harness, "noise of other images")

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0

    def _poisoned(self, images: ImageSet, harness: Harness, stream: str) -> Pixels:
        """Add a pattern of its class's process to each image; `stream` draws the patterns."""
        found = self._processes(images, harness)
        poisoned, random = np.empty_like(images.images), harness.random(stream)
        side = images.size + _DROPPED
        block = max(1, _VALUES // (3 * side**2))
        for label in range(images.classes):
            index = np.flatnonzero(images.labels == label)
            for start in range(0, len(index), block):
                part = index[start : start + block]
                draws = random.normal(3, len(part), 4 * side - 4).double().cpu().numpy()
                pattern = _scan(draws, found[label]).transpose(3, 0, 1, 2)
                if self.rho_u is None:
                    pattern *= self._norm(images) / np.sqrt(
                        (pattern**2).sum((1, 2, 3), keepdims=True)
                    )
                else:
                    pattern *= float(self.rho_u) / np.abs(pattern).max((1, 2, 3), keepdims=True)
                levels = np.rint(images.images[part] + 255 * pattern)
                poisoned[part] = np.clip(levels, 0, 255).astype(np.uint8)
        return poisoned

    def _processes(self, images: ImageSet, harness: Harness) -> Field:
        """Return the coefficients of each class, float64 [C, 3, 8]."""
        if self.coefficients is not None:
            return _imported(Path(self.coefficients), images)
        response = self.response
        if response is None:
            response = 10.0 if images.classes <= 10 else min(3.0, 300 / images.classes)
        return processes(images.classes, images.size, response, harness.random("processes"))

    def _budget(self, images: ImageSet) -> Budget:
        if self.rho_u is not None:
            return Budget("linf", self.rho_u)
        return Budget("l2", self._norm(images))

    def _norm(self, images: ImageSet) -> float:
        return images.size / 32 if self.norm is None else self.norm


def _imported(path: Path, images: ImageSet) -> Field:
    """Return the coefficients of a file for the first classes, float64 [C, 3, 8].

    Raises:
        UserError: an unreadable file, too few processes, another shape, or one that diverges.
    """
    arrays, name = [*read_arrays(path).values()], f"ar.coefficients={path}"
    if len(arrays) != 1 or arrays[0].ndim != 4 or arrays[0].shape[1:] != (3, 3, 3):
        shapes = ", ".join(str([*array.shape]) for array in arrays) or "nothing"
        raise UserError(
            f"{name} holds {shapes}; give one array [P, 3, 3, 3]: process, channel, window"
        )
    windows = arrays[0].astype(np.float64).reshape(-1, 3, 9)
    if len(windows) < images.classes:
        raise UserError(
            f"{name} holds {len(windows)} processes, the data has {images.classes} classes; give "
            "a file of one for each class, or leave it out to search them"
        )
    windows = windows[: images.classes]
    if windows[:, :, 8].any():
        raise UserError(f"{name} has windows whose last entry is not 0; it is what they predict")
    found = np.ascontiguousarray(windows[:, :, :8])
    side = images.size + _DROPPED
    draws = np.random.default_rng(0).standard_normal((3 * len(found), 3, 4 * side - 4))
    with np.errstate(all="ignore"):
        largest = np.abs(_scan(draws, found.reshape(-1, 8))).max((0, 1, 3))
    wrong = np.flatnonzero(~(largest < np.finfo(np.float32).max).reshape(-1, 3).all(1))
    if len(wrong):
        raise UserError(
            f"{name}: process {wrong[0]} diverges on {images.size} px; leave ar.coefficients out "
            "to search stable ones"
        )
    empty = np.flatnonzero(~largest.reshape(-1, 3).any(1))
    if len(empty):
        raise UserError(
            f"{name}: the pattern of process {empty[0]} is black; leave ar.coefficients out to "
            "search others"
        )
    return found


def processes(classes: int, size: int, response: float, random: Random) -> Field:
    """Search coefficients of processes that are stable and differ from one another.

    Weights N(0, 1) are divided by their sum. A process is rejected if one of three patterns has a
    norm above 50 before it is scaled, or if the last, scaled to norm 1, has a response below
    `response` to the filter of an accepted process: the sum of the positive parts of its
    convolution with that process's window, whose last entry is -1. Both bounds hold at 32 px and
    grow with the side.

    Args:
        classes: number of processes.
        size: side of the images in pixels; patterns of the search have at least 32 px.
        response: smallest response at 32 px.
        random: stream of all draws.

    Returns:
        Coefficients of the window's first 8 entries, float64 [C, 3, 8].

    Raises:
        UserError: too few processes found.
    """
    size = max(size, _SEARCHED)
    largest, least, side = 50 * size / 32, response * size / 32, size + _DROPPED
    found: list[Field] = []
    filters: list[Field] = []
    waiting: list[tuple[Field, Field]] = []
    for _ in range(_DRAWS):
        weights = random.normal(CHANNELS, 8).double().cpu().numpy()
        starts = random.normal(CHANNELS, 3, 4 * side - 4).double().cpu().numpy()
        with np.errstate(all="ignore"):  # most processes are not stable
            coefficients = weights / weights.sum(1, keepdims=True)
            patterns = _scan(starts, coefficients)
            norms = np.sqrt((patterns**2).sum((0, 1)))
        # A pattern is at least as large as one of its channels, so these are tried first.
        stable = np.flatnonzero((norms <= largest).all(1))
        waiting += [(coefficients[k], patterns[:, :, k]) for k in stable]
        while len(waiting) >= 3:
            process, pattern = map(np.array, zip(*waiting[:3], strict=True))
            del waiting[:3]
            norm = np.sqrt((pattern**2).sum((0, 1, 2)))
            if (norm > largest).any():
                continue
            if filters and _responses(pattern[..., 2] / norm[2], np.array(filters)).min() < least:
                continue
            found.append(process)
            filters.append(np.hstack([process, np.full((3, 1), -1.0)]))
            if len(found) == classes:
                return np.array(found)
    raise UserError(
        f"ar.response={response:g} is too much for {classes} classes: the search found "
        f"{len(found)} of {classes} processes; lower it"
    )


def _responses(pattern: Field, filters: Field) -> Field:
    """Return the sums [F] of positive responses of [3, S, S] to filters [F, 3, 9]."""
    windows = sliding_window_view(pattern, (3, 3), axis=(1, 2))
    flat = windows.transpose(0, 3, 4, 1, 2).reshape(27, -1)
    sums: Field = np.maximum(filters.reshape(-1, 27) @ flat, 0).sum(1)
    return sums


def _scan(draws: Field, coefficients: Field) -> Field:
    """Continue random borders by autoregression, row by row.

    Args:
        draws: two rows, then two columns of the rows below, float64 [K, P, 4 side - 4].
        coefficients: of each of K channels, float64 [K, 8].

    Returns:
        The patterns without their first 4 rows and columns, float64 [side - 4, side - 4, K, P].
    """
    channels, patterns, count = draws.shape
    side = count // 4 + 1
    # Channels and patterns in one axis, along which NumPy computes: patterns alone may be three.
    field = np.empty((side, side, channels * patterns))
    draws = np.moveaxis(draws, 2, 0).reshape(count, -1)
    field[:2] = draws[: 2 * side].reshape(2, side, -1)
    field[2:, :2] = draws[2 * side :].reshape(side - 2, 2, -1)
    weights = np.repeat(coefficients.T, patterns, axis=1)
    term = np.empty(channels * patterns)
    for row in range(side - 2):
        for column in range(side - 2):
            total = field[row + 2, column + 2]
            np.multiply(weights[0], field[row, column], out=total)
            for k in range(1, 8):
                np.multiply(weights[k], field[row + k // 3, column + k % 3], out=term)
                total += term
    field = field.reshape(side, side, channels, patterns)
    return field[_DROPPED:, _DROPPED:]
