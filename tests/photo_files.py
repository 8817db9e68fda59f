"""Small pictures as files."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def save(file: Path, height: int = 20, width: int = 30, seed: int = 0, **options: Any) -> None:
    """Write a picture of random pixels, in the format of its ending."""
    pixels = np.random.default_rng(seed).integers(20, 236, (height, width, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)
