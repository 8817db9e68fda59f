"""Noise or poison from a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from unlearnable_bench import (
    Attack,
    Budget,
    Harness,
    ImageSet,
    Poison,
    Radius,
    UserError,
    option,
)


@dataclass(frozen=True, kw_only=True)
class File(Attack):
    """Noise or poison from a file: file:PATH, an .npy, .npz or .safetensors of one array.

    The array is [N, H, W, 3] or [N, 3, H, W], in the order of the training images. uint8 is
    read as poisoned images, signed integers as noise in 8-bit levels, floats as noise in units
    of the pixel range. Nothing is unpickled. A poison of a results folder
    (`poisons/KEY.safetensors`) is such a file.
    """

    surrogate: ClassVar[Literal["none"]] = "none"

    path: str = option("", "path of the file: .npy, .npz or .safetensors")
    rho_u: Radius = option(Radius("8/255"), "radius that the noise must not exceed, L-infinity")

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file."""
        if not Path(self.path).is_file():
            raise UserError(f"file:{self.path}: no such file; write --methods file:PATH")
        return hashlib.sha256(Path(self.path).read_bytes()).hexdigest()

    def check(self, images: ImageSet) -> None:
        """Refuse a file that is unreadable, of another shape, or beyond the radius.

        Raises:
            UserError: names the file and the violated condition.
        """
        poison = self._poison(images)
        excess = poison.budget.excess(images.images, poison.images)
        if excess:
            raise UserError(
                f"{self.path} goes beyond file.rho_u={self.rho_u}: {excess}; allow it with "
                "--set file.rho_u=K/255"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add the noise, or return the poisoned images of the file."""
        return self._poison(images)

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0

    def _poison(self, images: ImageSet) -> Poison:
        array = self._array(images)
        budget = Budget("linf", self.rho_u)
        if array.dtype == np.uint8:
            return Poison(array, budget)
        levels = 255 * array if array.dtype.kind == "f" else array
        # Without np.abs, which maps int8's -128 to -128.
        worst = max(float(levels.max()), -float(levels.min()))
        if worst > self.rho_u.levels + 0.5:
            raise UserError(
                f"{self.path} reaches {worst:g}/255, beyond file.rho_u={self.rho_u}; allow it with "
                "--set file.rho_u=K/255"
            )
        return Poison.from_noise(images, levels, self.rho_u)

    def _array(self, images: ImageSet) -> NDArray[Any]:
        array = _read(Path(self.path))
        if array.ndim == 4 and array.shape[1] == 3 and array.shape[3] != 3:
            array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        if array.shape != images.images.shape:
            wanted = list(images.images.shape)
            raise UserError(
                f"{self.path} holds {list(array.shape)}, the images are {wanted}; give one noise "
                "or poisoned image for each training image, in their order"
            )
        if array.dtype.kind not in "fi" and array.dtype != np.uint8:
            raise UserError(
                f"{self.path} holds {array.dtype}; allowed: uint8 (poisoned images), signed "
                "integers (noise in 8-bit levels), floats (noise in units of the pixel range)"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            image = int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(1)))
            raise UserError(f"{self.path} is not finite at image {image}; remove NaN and infinity")
        return array


def _read(path: Path) -> NDArray[Any]:
    """Return the one array of a file."""
    arrays: dict[str, NDArray[Any]]
    try:
        if path.suffix == ".safetensors":
            arrays = load_file(path)
        else:
            with path.open("rb") as stream:
                loaded = np.load(stream, allow_pickle=False)
                arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # numpy, zipfile and safetensors raise exceptions of their own
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{path} is not a readable array file ({reason}); allowed: .npy, .npz, .safetensors"
        ) from error
    if len(arrays) != 1:
        names = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(f"{path} holds {names}; save one array to the file")
    return next(iter(arrays.values()))
