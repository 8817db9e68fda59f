"""Class-wise convolutions: a transcription by loops, kernels by hand, data that do not fit."""

import numpy as np
import pytest
from helpers import make_harness, random_images

from unlearnable_bench import ImageSet, UserError
from unlearnable_bench.attacks.cuda import CUDA, kernels


def convolved_by_loops(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return conv(x) / max of one image, in levels before the truncation, from the recipe."""
    height, width, _ = image.shape
    reach = len(kernel) // 2
    x = image / 255
    out = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                for i in range(len(kernel)):
                    for j in range(len(kernel)):
                        source = row + i - reach, column + j - reach
                        if 0 <= source[0] < height and 0 <= source[1] < width:
                            out[row, column, channel] += kernel[i, j] * x[*source, channel]
    return 255 * out / out.max()


@pytest.mark.parametrize("options", [{}, {"blur": 0.06, "size": 5}])
def test_equals_the_convolution_by_loops(options: dict[str, float]) -> None:
    images = random_images(count=12, size=7)
    attack = CUDA(**options)  # type: ignore[arg-type]
    poison = attack.generate(images, make_harness(seed=3))
    used = kernels(3, attack.size, attack.blur, 3)
    for image, got, label in zip(images.images, poison.images, images.labels, strict=True):
        exact = convolved_by_loops(image, used[label])
        # Truncation: where the exact value is whole, either neighbour is right.
        whole = np.abs(exact - np.rint(exact)) < 1e-6
        assert (np.abs(got - np.floor(exact)) <= whole).all()
    assert poison.budget.norm == "none"


def test_kernels_are_drawn_in_the_order_of_the_official_code() -> None:
    """For each class 27 uniforms, of which 9 are used, then row and column of the one."""
    random = np.random.RandomState(0)
    for got in kernels(2, 3, 0.3, 0):
        block = [random.uniform(0, 0.3) for _ in range(27)]
        row, column = random.randint(3), random.randint(3)
        expected = np.array(block[:9]).reshape(3, 3)
        expected[row, column] = 1
        np.testing.assert_allclose(got, expected, rtol=1e-15)


def test_kernels_have_one_entry_of_one_and_the_others_below_the_bound() -> None:
    found = kernels(100, 3, 0.3, 5)
    assert ((found == 1).sum((1, 2)) == 1).all()
    others = found[found < 1]
    assert 0 <= others.min() < 0.001
    assert 0.299 < others.max() < 0.3
    places = {tuple(np.argwhere(kernel == 1)[0]) for kernel in found}
    assert len(places) == 9


def test_a_flat_image_loses_only_at_its_border() -> None:
    """Zero padding: inside, each value is the sum of the kernel, which is the maximum."""
    images = ImageSet(np.full((2, 6, 6, 3), 100, np.uint8), np.array([0, 1]), 2)
    poison = CUDA().generate(images, make_harness()).images
    assert (poison[:, 1:-1, 1:-1] == 255).all()
    kernel = kernels(2, 3, 0.3, 0)[0]
    assert poison[0, 0, 0].tolist() == [int(255 * kernel[1:, 1:].sum() / kernel.sum())] * 3


def test_a_black_image_stays_black() -> None:
    images = ImageSet(np.zeros((2, 6, 6, 3), np.uint8), np.array([0, 1]), 2)
    assert not CUDA().generate(images, make_harness()).images.any()


def test_images_of_one_class_are_refused() -> None:
    images = ImageSet(np.zeros((4, 6, 6, 3), np.uint8), np.ones(4, np.int64), 2)
    with pytest.raises(UserError, match=r"cuda tells classes apart by their kernels: .* one class"):
        CUDA().check(images)


def test_a_kernel_without_a_centre_or_larger_than_the_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"cuda\.size=4 has no centre; use --set cuda\.size=5"):
        CUDA(size=4).check(random_images())
    with pytest.raises(UserError, match=r"cuda\.size=9 .* images of 8 px; .* cuda\.size=7 or less"):
        CUDA(size=9).check(random_images())
