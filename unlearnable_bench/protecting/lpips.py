"""LPIPS by torchmetrics, if the package and AlexNet's weights are on this machine."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unlearnable_bench.errors import UserError, one_line
from unlearnable_bench.images import Pixels

_LEAST = 31  # pixels: below it AlexNet's second pooling has nothing left
_LARGEST = 1024  # pixels: a picture of 48 megapixels would take gigabytes
_FETCH = "python -c \"import torchvision; torchvision.models.alexnet(weights='DEFAULT')\""


class LPIPS:
    """Learned perceptual image patch similarity with AlexNet (Zhang et al., CVPR 2018).

    Nothing is downloaded.

    Raises:
        UserError: the package or the weights are missing, and the command that gets them.
    """

    def __init__(self) -> None:
        try:
            from torchmetrics.image.lpip import (  # noqa: PLC0415 - an extra
                LearnedPerceptualImagePatchSimilarity,
            )
        except ImportError as error:
            raise UserError(
                "it needs the package torchmetrics: pip install 'unlearnable-bench[lpips]'"
            ) from error
        _check_weights()
        # The metric expects [-1, 1]; with `normalize` it takes [0, 1] and refuses other values.
        self._metric: Any = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)

    def __call__(self, before: Pixels, after: Pixels) -> float | None:
        """Return the distance of two pictures, 0 if they are equal; None: they are too small.

        Args:
            before: uint8 [H, W, 3]; scaled down to a longest side of 1,024 pixels.
            after: of the same shape.
        """
        one, other = _tensor(before), _tensor(after)
        if min(one.shape[2:]) < _LEAST:
            return None
        with torch.inference_mode():
            return float(self._metric(one, other))


def _check_weights() -> None:
    """Refuse missing weights, which torchvision would download, and a file that is not theirs.

    torchvision unpickles the file, so it must hold nothing but tensors.
    """
    from torchvision.models import AlexNet_Weights  # noqa: PLC0415 - slow

    name = AlexNet_Weights.DEFAULT.url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        raise UserError(f"{path} with AlexNet's weights is missing; download it once: {_FETCH}")
    # The name ends with the first digits of the file's SHA-256.
    expected = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(expected):
        raise UserError(
            f"{path} is damaged or another file (SHA-256 {digest[:8]}, not {expected}); remove it, "
            f"and download it again: {_FETCH}"
        )
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # torch raises exceptions of many kinds
        raise UserError(
            f"{path} holds more than weights ({one_line(error)}); remove it, and download it "
            f"again: {_FETCH}"
        ) from error


def _tensor(pixels: Pixels) -> torch.Tensor:
    """Return a picture as float32 [1, 3, H, W] in [0, 1]."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
