"""Each filter equals a direct call for each image, and leaves all else alone."""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import make_harness, random_images
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.transforms import functional as torchvision

from unlearnable_bench import Defense, ImageSet, UserError
from unlearnable_bench.defenses.bilateral_filter import BilateralFilter
from unlearnable_bench.defenses.bit_depth import BitDepth
from unlearnable_bench.defenses.gaussian_blur import GaussianBlur
from unlearnable_bench.defenses.gaussian_filter import GaussianFilter
from unlearnable_bench.defenses.grayscale import Grayscale
from unlearnable_bench.defenses.jpeg import JPEG
from unlearnable_bench.defenses.mean_filter import MeanFilter
from unlearnable_bench.defenses.median_filter import MedianFilter

Change = Callable[[NDArray[np.uint8]], Any]
BINOMIAL = np.array([0.25, 0.5, 0.25])
IMAGES = random_images(count=9, size=16, classes=5, seed=3)


def grey(image: NDArray[np.uint8]) -> Any:
    return torchvision.to_grayscale(Image.fromarray(image), 3)


def jpeg(**settings: Any) -> Change:
    def change(image: NDArray[np.uint8]) -> Any:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", **settings)
        return cv2.cvtColor(
            cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR),
            cv2.COLOR_BGR2RGB,
        )

    return change


def posterize(bits: int) -> Change:
    return lambda image: ImageOps.posterize(Image.fromarray(image), bits)


CASES: list[tuple[Defense, Change]] = [
    (MeanFilter(), lambda image: cv2.blur(image, (3, 3))),
    (MeanFilter(size=4), lambda image: cv2.blur(image, (4, 4))),
    (GaussianFilter(), lambda image: cv2.GaussianBlur(image, (3, 3), 0)),
    (
        GaussianFilter(),
        lambda image: np.floor(
            cv2.sepFilter2D(image.astype(np.float64), -1, BINOMIAL, BINOMIAL) + 0.5
        ),
    ),
    (GaussianFilter(size=5, sigma=2.0), lambda image: cv2.GaussianBlur(image, (5, 5), 2.0)),
    (MedianFilter(), lambda image: cv2.medianBlur(image, 3)),
    (MedianFilter(size=5), lambda image: cv2.medianBlur(image, 5)),
    (BilateralFilter(), lambda image: cv2.bilateralFilter(image, 9, 75, 75)),
    (
        BilateralFilter(diameter=5, sigma_color=20.0, sigma_space=2.0),
        lambda image: cv2.bilateralFilter(image, 5, 20, 2),
    ),
    (GaussianBlur(), lambda image: cv2.GaussianBlur(image, (7, 7), 1.0)),
    (GaussianBlur(sigma=2.0), lambda image: cv2.GaussianBlur(image, (13, 13), 2.0)),
    (Grayscale(), grey),
    (JPEG(), jpeg(quality=10)),
    (JPEG(), jpeg(quality=10, subsampling="4:2:0")),
    (JPEG(quality=80), jpeg(quality=80)),
    (BitDepth(), posterize(2)),
    (BitDepth(bits=5), posterize(5)),
]


@pytest.mark.parametrize(("defense", "change"), CASES)
def test_equals_a_direct_call_for_each_image(defense: Defense, change: Change) -> None:
    before = IMAGES.digest()
    prepared = defense.prepare(IMAGES, make_harness())
    assert prepared.images.dtype == np.uint8
    assert prepared.images.shape == IMAGES.images.shape
    assert not np.array_equal(prepared.images, IMAGES.images)
    for got, image in zip(prepared.images, IMAGES.images, strict=True):
        assert np.array_equal(got, np.asarray(change(image)))
    assert np.array_equal(prepared.labels, IMAGES.labels)
    assert prepared.classes == IMAGES.classes
    assert IMAGES.digest() == before
    assert defense.prepare(IMAGES, make_harness(seed=1)).digest() == prepared.digest()


def test_grey_is_the_luma_of_itu_r_601() -> None:
    prepared = Grayscale().prepare(IMAGES, make_harness()).images
    luma = IMAGES.images @ np.array([0.299, 0.587, 0.114])
    assert np.abs(prepared - luma[..., None]).max() <= 0.51


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_is_its_formula(bits: int) -> None:
    prepared = BitDepth(bits=bits).prepare(IMAGES, make_harness()).images
    step = 2 ** (8 - bits)
    assert np.array_equal(prepared, step * np.floor(IMAGES.images / step))
    assert len(np.unique(prepared)) <= 2**bits


def test_the_blur_of_apbench_would_change_nothing() -> None:
    for image in IMAGES.images:
        assert np.array_equal(cv2.GaussianBlur(image, (3, 3), 0.1), image)


@pytest.mark.parametrize("defense", [GaussianFilter, MedianFilter])
def test_an_even_window_is_refused(defense: type[Defense]) -> None:
    with pytest.raises(UserError, match="size must be odd, got 4"):
        defense.configured({"size": "4"}, owner="filter")


@pytest.mark.parametrize(
    ("difference", "total"), [((60, 0, 0), 60), ((60, 60, 60), 180), ((40, 0, 80), 120)]
)
def test_the_bilateral_filter_adds_the_differences_of_the_channels(
    difference: tuple[int, int, int], total: int
) -> None:
    pixels = np.full((1, 5, 5, 3), 100, np.uint8)
    pixels[0, :, 3:] += np.array(difference, np.uint8)
    images = ImageSet(pixels, np.zeros(1, np.int64), 2)
    attack = BilateralFilter(diameter=3, sigma_color=75.0, sigma_space=1e6)
    found = attack.prepare(images, make_harness()).images[0, 2, 2]
    # Of the pixel and its four neighbours one differs: the neighbourhood is a disc.
    weight = np.exp(-(total**2) / (2 * 75.0**2))
    expected = 100 + np.array(difference) * weight / (4 + weight)
    assert np.abs(found - expected).max() <= 0.6
