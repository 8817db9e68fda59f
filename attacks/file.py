"""Noise or poison from a file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np

from unlearnable_bench import (
    Attack,
    Budget,
    Harness,
    ImageSet,
    Poison,
    Radius,
    UserError,
    add_noise,
    option,
)
from unlearnable_bench.exporting.reading import fingerprint, is_export
from unlearnable_bench.file_kinds import kind_of
from unlearnable_bench.images import blocks as slices
from unlearnable_bench.saved import read_rows
from unlearnable_bench.saved_forms import Fitted, fit
from unlearnable_bench.saved_meaning import Reading, blocks, decide, extent, order
from unlearnable_bench.saved_pictures import digest, is_pictures


@dataclass(frozen=True, kw_only=True)
class File(Attack):
    """Noise or poison from a file: file:PATH, one array, or a folder or zip of INDEX.png.

    The array (.npy, .npz, .safetensors or .pt) is [N, H, W, 3] or [N, 3, H, W] in the order of the
    training images; N rows may also be C, one per class, or 1, one for all images. `index` next to
    it says which images the rows are of. uint8 and pictures are read as poisoned images, or as
    noise around 128. Other types are read as what changes the images less: noise (signed
    integers in 8-bit levels, floats in units of the pixel range) or poisoned images (0 to 255, 0
    to 1, or -1 to 1). The printed plan says which. Labels or file names next to the array are
    checked. Nothing is unpickled but the tensors of a .pt, by torch's loader of weights. A poison
    of a results folder (`poisons/KEY.safetensors`) is such a file, and a folder that `ubench
    export` wrote is read in any of its formats, by index.
    """

    needs = "undeclared"
    seeded: ClassVar[bool] = False

    surrogate: ClassVar[Literal["none"]] = "none"

    path: str = option("", "path: .npy, .npz, .safetensors, .pt, a folder or a zip of pictures")
    rho_u: Radius = option(Radius("8/255"), "radius that the noise must not exceed, L-infinity")
    content: Literal["noise", "images"] | None = option(
        None, "meaning of the array: noise or poisoned images; none: decided by the values"
    )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file, of names and contents of pictures, or of an export."""
        path = Path(self.path)
        if is_export(path):
            return fingerprint(path)
        if not path.is_file() and not is_pictures(path):
            kind = kind_of(path)
            text = f" {kind}" if kind else ": no such file; write --methods file:PATH"
            raise UserError(f"file:{self.path}{text}")
        return digest(path)

    def resolved(self, images: ImageSet) -> Self:
        """Return the method with `content` filled in if the array is not what its type says.

        uint8 images and other noise have the keys that they have always had; what was once taken
        for noise and is images has another.
        """
        if self.content is not None or is_pictures(Path(self.path)):
            return self
        fitted = self._fitted(images)
        reading = self._reading(fitted)
        if reading.images == (fitted.rows.dtype == np.uint8):
            return self
        return replace(self, content="images" if reading.images else "noise")

    def check(self, images: ImageSet) -> str:
        """Refuse a file that is unreadable, of another shape or order, or beyond the radius.

        Raises:
            UserError: names the file and the violated condition.
        """
        fitted = self._fitted(images)
        reading = self._reading(fitted)
        if fitted.shared and reading.images:
            raise UserError(
                f"{self.path} is read as {reading}, {fitted.how}; give an image for each training "
                "image, or save noise as int8 or floats"
            )
        order_text = order(Path(self.path), fitted, reading)
        poison = self._poison(fitted, reading, images)
        excess = poison.budget.excess(images.images, poison.images)
        if excess:
            raise UserError(
                f"{self.path} goes beyond file.rho_u={self.rho_u}: {excess}; allow it with "
                "--set file.rho_u=K/255"
            )
        pairs = ((poison.images[part], images.images[part]) for part in slices(images.images))
        if self.rho_u and all(np.array_equal(*pair) for pair in pairs):
            what = "the clean images" if reading.images else "noise below half a level of 8 bits"
            raise UserError(f"{self.path} changes no image: it holds {what}; give another file")
        form = f"{fitted.rows.dtype} {fitted.saved.layout}"
        orders = [fitted.how, "" if fitted.shared else order_text]
        return f"{self.path} is read as {reading} ({form}); {'; '.join(filter(None, orders))}"

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add the noise, or return the poisoned images of the file."""
        fitted = self._fitted(images)
        return self._poison(fitted, self._reading(fitted), images)

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0

    def _fitted(self, images: ImageSet) -> Fitted:
        path = Path(self.path)
        return fit(path, read_rows(path), images)

    def _reading(self, fitted: Fitted) -> Reading:
        """Return the meaning of the values; refuse noise beyond the radius."""
        path = Path(self.path)
        span = extent(path, fitted.rows.array)
        reading = decide(path, fitted, span, self.content)
        worst = reading.worst(span)
        if not reading.images and worst > self.rho_u.levels + 0.5:
            raise UserError(
                f"{self.path} reaches {worst:g}/255, beyond file.rho_u={self.rho_u}; allow it with "
                "--set file.rho_u=K/255"
            )
        return reading

    def _poison(self, fitted: Fitted, reading: Reading, images: ImageSet) -> Poison:
        whole = fitted.covered is None
        poisoned = np.empty_like(images.images) if whole else images.images.copy()
        for start, block in blocks(fitted.rows):
            part = slice(start, start + len(block))
            clean = fitted.images.images[part]
            poisoned[part if fitted.covered is None else fitted.covered[part]] = (
                reading.poisoned(block, clean)
                if reading.images
                else add_noise(clean, reading.levels(block), self.rho_u)
            )
        return Poison(poisoned, Budget("linf", self.rho_u))
