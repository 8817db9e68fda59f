"""Noise or poison from a file."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

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
from unlearnable_bench.attacks._foreign import read_saved
from unlearnable_bench.attacks._meaning import Extent, Reading, blocks, decide, extent, order
from unlearnable_bench.file_kinds import kind_of


@dataclass(frozen=True, kw_only=True)
class File(Attack):
    """Noise or poison from a file: file:PATH, an .npy, .npz or .safetensors of one array.

    The array is [N, H, W, 3] or [N, 3, H, W], in the order of the training images. uint8 is read
    as poisoned images. Other types are read as what changes the images less: noise (signed
    integers in 8-bit levels, floats in units of the pixel range) or poisoned images (0 to 255, 0
    to 1, or -1 to 1). The printed plan says which. Labels or file names next to the array are
    checked. Nothing is unpickled. A poison of a results folder (`poisons/KEY.safetensors`) is
    such a file.
    """

    surrogate: ClassVar[Literal["none"]] = "none"

    path: str = option("", "path of the file: .npy, .npz or .safetensors")
    rho_u: Radius = option(Radius("8/255"), "radius that the noise must not exceed, L-infinity")
    content: Literal["noise", "images"] | None = option(
        None, "meaning of the array: noise or poisoned images; none: decided by the values"
    )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file."""
        if not Path(self.path).is_file():
            kind = kind_of(Path(self.path))
            text = f" {kind}" if kind else ": no such file; write --methods file:PATH"
            raise UserError(f"file:{self.path}{text}")
        with Path(self.path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def resolved(self, images: ImageSet) -> Self:
        """Return the method with `content` filled in if values other than uint8 are images.

        uint8 images and noise have the keys that they have always had; what was once taken for
        noise and is images has another.
        """
        if self.content is not None:
            return self
        array = read_saved(Path(self.path), images).array
        if array.dtype == np.uint8:
            return self
        reading = self._reading(array, self._extent(array), images)
        return replace(self, content="images") if reading.images else self

    def check(self, images: ImageSet) -> str:
        """Refuse a file that is unreadable, of another shape or order, or beyond the radius.

        Raises:
            UserError: names the file and the violated condition.
        """
        path = Path(self.path)
        saved = read_saved(path, images)
        reading = self._reading(saved.array, self._extent(saved.array), images)
        order_text = order(path, saved, reading, images)
        poison = self._poison(saved.array, reading, images)
        excess = poison.budget.excess(images.images, poison.images)
        if excess:
            raise UserError(
                f"{self.path} goes beyond file.rho_u={self.rho_u}: {excess}; allow it with "
                "--set file.rho_u=K/255"
            )
        if self.rho_u and np.array_equal(poison.images, images.images):
            what = "the clean images" if reading.images else "noise below half a level of 8 bits"
            raise UserError(f"{self.path} changes no image: it holds {what}; give another file")
        form = f"{saved.array.dtype} {saved.layout}"
        return f"{self.path} is read as {reading} ({form}); {order_text}"

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add the noise, or return the poisoned images of the file."""
        array = read_saved(Path(self.path), images).array
        return self._poison(array, self._reading(array, self._extent(array), images), images)

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0

    def _extent(self, array: NDArray[Any]) -> Extent:
        return extent(Path(self.path), array)

    def _reading(self, array: NDArray[Any], span: Extent, images: ImageSet) -> Reading:
        """Return the meaning of the array; refuse noise beyond the radius."""
        reading = decide(Path(self.path), array, span, images, self.content)
        worst = span.worst * reading.scale
        if not reading.images and worst > self.rho_u.levels + 0.5:
            raise UserError(
                f"{self.path} reaches {worst:g}/255, beyond file.rho_u={self.rho_u}; allow it with "
                "--set file.rho_u=K/255"
            )
        return reading

    def _poison(self, array: NDArray[Any], reading: Reading, images: ImageSet) -> Poison:
        poisoned = np.empty_like(images.images)
        for start, block in blocks(array):
            part = slice(start, start + len(block))
            clean = images.images[part]
            poisoned[part] = (
                reading.poisoned(block, clean)
                if reading.images
                else add_noise(clean, reading.levels(block), self.rho_u)
            )
        return Poison(poisoned, Budget("linf", self.rho_u))
