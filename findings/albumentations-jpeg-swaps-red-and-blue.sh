#!/usr/bin/env bash
# The JPEG compression of albumentations takes red for blue.
#
# Expected: `ImageCompression` of an RGB image is a JPEG file of that image, as Pillow writes it.
# Happens:  the RGB image goes to OpenCV's encoder, which expects BGR, so the luma of JPEG has 11 % of
#           red and 30 % of blue. The result equals Pillow's for the image with swapped channels, bit
#           by bit, and so does WebP's. It looks right, since the decoder swaps them back.
# Versions: albumentations 2.0.8, opencv-python-headless 5.0.0.93, Pillow 13.0.0.
# Matters:  JPEG is the standard test of poisons and adversarial noise, and it removes most from the
#           channel with the least luma. At quality 90, 19 % of pixel-wise noise survives in red and
#           10 % in blue; with albumentations it is the other way round.
# Our code: the JPEG defense (defenses/jpeg.py) and the views of `ubench protect`
#           (unlearnable_bench/protecting/check.py) compress RGB images with Pillow.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile albumentations==2.0.8 opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6 scipy==1.17.1

NO_ALBUMENTATIONS_UPDATE=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
import io

import albumentations
import cv2
import numpy as np
from PIL import Image

print("albumentations", albumentations.__version__, "OpenCV", cv2.__version__)
QUALITY = 90
rng = np.random.default_rng(0)


def pillow(pixels: np.ndarray, kind: str = "jpeg") -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=QUALITY)
    return np.asarray(Image.open(file).convert("RGB"))


def augmented(pixels: np.ndarray, kind: str = "jpeg") -> np.ndarray:
    return albumentations.ImageCompression(kind, quality_range=(QUALITY, QUALITY), p=1)(
        image=pixels
    )["image"]


def swapped(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1])


def smooth() -> np.ndarray:
    """Return a smooth random RGB image of 32 x 32 pixels."""
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((32, 32), Image.Resampling.BICUBIC))


images = [smooth() for _ in range(200)]
for kind in ("jpeg", "webp"):
    same = sum(bool((augmented(x, kind) == pillow(x, kind)).all()) for x in images)
    other = sum(
        bool((augmented(x, kind) == swapped(pillow(swapped(x), kind))).all()) for x in images
    )
    print(f"{kind}: of 200 images, {same} equal Pillow's, {other} with red and blue swapped for it")
    assert same == 0 and other == 200

bgr = [cv2.imencode(".jpg", swapped(x), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1] for x in images]
assert all(
    (swapped(cv2.imdecode(file, cv2.IMREAD_COLOR)) == pillow(x)).all()
    for file, x in zip(bgr, images, strict=True)
)
print("OpenCV, given BGR, equals Pillow for all of them")

survives = {}
for name, compress in (("Pillow", pillow), ("albumentations", augmented)):
    for channel, colour in enumerate(("red", "green", "blue")):
        left = whole = 0
        for x in images:
            noise = np.zeros(x.shape, int)
            noise[..., channel] = 8 * rng.choice([-1, 1], x.shape[:2])
            noisy = np.clip(x + noise, 0, 255).astype(np.uint8)
            left += (noise * (compress(noisy).astype(int) - compress(x))).sum()
            whole += (noise * (noisy.astype(int) - x)).sum()
        survives[name, colour] = left / whole
        print(f"{name}: {survives[name, colour]:.0%} of pixel-wise noise survives in {colour}")
assert survives["Pillow", "red"] > 1.5 * survives["Pillow", "blue"]
assert survives["albumentations", "blue"] > 1.5 * survives["albumentations", "red"]
PYTHON
