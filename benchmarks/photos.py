"""Cut sample photographs of scikit-image and scikit-learn into ten classes of pictures.

python benchmarks/photos.py photos [COUNT]

Each class is one photograph, each picture a crop of it of 168 to 224 px, scaled to 224 px. As in
photographs of one thing, light differs between pictures: mean and contrast of each are drawn,
otherwise the mean colour alone tells such classes apart.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

SIDE = 224  # pixels
NAMES = (
    "astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina",
    "hubble_deep_field",
)  # fmt: skip


def photographs() -> dict[str, np.ndarray]:
    """Return the photographs by name, uint8 [H, W, 3]; none is downloaded."""
    found = {name: getattr(data, name)() for name in NAMES}
    found["china"], found["flower"] = load_sample_images().images
    motorcycle = Path(data.__file__).parent / "motorcycle_left.png"
    return found | {"motorcycle": np.asarray(Image.open(motorcycle).convert("RGB"))}


def main(folder: Path, count: int) -> None:
    """Write `count` pictures of each class to folder/CLASS/NNN.png."""
    random = np.random.default_rng(0)
    for name, photo in photographs().items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            side = int(random.integers(168, SIDE + 1))
            top = random.integers(photo.shape[0] - side + 1)
            left = random.integers(photo.shape[1] - side + 1)
            crop = Image.fromarray(
                np.ascontiguousarray(photo[top : top + side, left : left + side])
            )
            pixels = np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(float)
            mean = random.uniform(70, 185) + random.normal(0, 25, 3)
            contrast = random.uniform(25, 60) / (pixels.std((0, 1)).mean() + 8)
            lit = (pixels - pixels.mean((0, 1))) * contrast + mean
            Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)).save(
                folder / name / f"{k:03}.png"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 50)
