"""Training images that were purified elsewhere."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from unlearnable_bench import Defense, Harness, ImageSet, UserError, option
from unlearnable_bench.saved import Saved, read_rows
from unlearnable_bench.saved_forms import fit
from unlearnable_bench.saved_meaning import BYTES, labels_and_files, strangers
from unlearnable_bench.saved_pictures import digest, is_pictures


@dataclass(frozen=True, kw_only=True)
class Purified(Defense):
    """Purified training images from a file, for AVATAR, ECLIPSE, BridgePure and other purifiers.

    The array is uint8 [N, H, W, 3] or [N, 3, H, W], in the order of the training images, or the
    images are the pictures of a folder or zip, called by index (0.png) or by file name. Each image
    must be closer to its own clean image than to others. If the file holds `sha256`, as the one of
    `ubench run --export` does, other poisons than that one are refused.
    """

    needs = "undeclared"

    file: str = option(
        "", "path of the purified images: .npz, .npy, .safetensors, a folder or a zip"
    )
    leak: Literal[
        "undeclared", "nothing", "labels", "clean-subset", "clean-pairs", "pretrained-weights"
    ] = option("undeclared", "what the purifier was given besides the poisoned images")

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file."""
        if not self.file:
            raise UserError("purified needs a file: add --set purified.file=FILE")
        if not Path(self.file).is_file() and not is_pictures(Path(self.file)):
            raise UserError(
                f"purified.file={self.file}: no such file; give an .npz or .npy, or a folder of "
                "INDEX.png"
            )
        return digest(Path(self.file))

    def check(self, images: ImageSet) -> str:
        """Refuse a file that is unreadable or holds images of another shape, type or order.

        Raises:
            UserError: names the file and the violated condition.
        """
        self.fingerprint()
        saved = self._saved(images)
        checks = labels_and_files(saved, images)
        wrong, checked = strangers(saved.array, BYTES, images)
        if len(wrong) > 0.01 * checked:
            raise UserError(
                f"{self.file}: {len(wrong)} of {checked} images are closer to another clean image "
                f"than to their own, e.g. image {wrong[0]}; sort them as the training images are"
            )
        order = ", ".join([*checks, "each is nearest to its own clean image"])
        source = "checked" if saved.sha256 else "not checked: it holds no sha256"
        return f"{self.file} needs {self.leak}; order checked: {order}; its poison is {source}"

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Return the purified images.

        Raises:
            UserError: they were made from other images than these.
        """
        saved = self._saved(images)
        sha256 = hashlib.sha256(np.ascontiguousarray(images.images).data).hexdigest()
        if saved.sha256 not in (None, sha256):
            raise UserError(
                f"{self.file} was made from a poison of SHA-256 {str(saved.sha256)[:12]}..., this "
                f"one has {sha256[:12]}...; purify this one (ubench run --export FOLDER)"
            )
        return images.replaced(np.ascontiguousarray(saved.array))

    def _saved(self, images: ImageSet) -> Saved:
        fitted = fit(Path(self.file), read_rows(Path(self.file)), images)
        if fitted.shared or fitted.covered is not None:
            raise UserError(
                f"{self.file} is {fitted.how}; give a purified image for each training image"
            )
        if fitted.rows.dtype != np.uint8:
            raise UserError(
                f"{self.file} holds {fitted.rows.dtype}; save the purified images as uint8, 0 to "
                "255"
            )
        return replace(fitted.saved, array=fitted.rows[:])
