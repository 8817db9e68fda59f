"""Boxes scaled to one size equal torchvision's, image by image, and are drawn as it draws them."""

import math

import numpy as np
import oracle_parts
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as vision

from unlearnable_bench import Random, ResizedCrop
from unlearnable_bench.harness import random_transform
from unlearnable_bench.harness.resized_crop import random_boxes, resized_crop


def by_torchvision(x: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    views = []
    for image, box, mirror in zip(x, boxes.tolist(), flip, strict=True):
        view = vision.resized_crop(image, *box, [size, size], antialias=True)
        views.append(vision.horizontal_flip(view) if mirror else view)
    return torch.stack(views)


class Case:
    """A batch of images with a box of each, drawn from one number."""

    def __init__(self, seed: int, count: int, height: int, width: int, size: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def upto(high: Tensor) -> Tensor:
            return (torch.rand(count, generator=generator) * (high + 1)).long()

        self.x = torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)
        self.g = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
        box_height = 1 + upto(torch.tensor(height - 1))
        box_width = 1 + upto(torch.tensor(width - 1))
        top, left = upto(height - box_height), upto(width - box_width)
        self.boxes = torch.stack([top, left, box_height, box_width], 1)
        self.flip = torch.randint(2, (count,), generator=generator).bool()
        self.size = size

    def view(self, x: Tensor) -> Tensor:
        return resized_crop(x, self.boxes, self.flip, self.size)

    def expected(self, x: Tensor) -> Tensor:
        return by_torchvision(x, self.boxes, self.flip, self.size)


cases = st.builds(
    Case,
    seed=st.integers(0, 2**31),
    count=st.integers(1, 5),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 40),
)


@given(cases)
def test_views_equal_those_of_torchvision(case: Case) -> None:
    torch.testing.assert_close(case.view(case.x), case.expected(case.x), rtol=1e-12, atol=1e-13)


@given(cases)
def test_gradients_equal_those_through_torchvision(case: Case) -> None:
    x = case.x.clone().requires_grad_()
    (ours,) = torch.autograd.grad(case.view(x), x, case.g)
    (theirs,) = torch.autograd.grad(case.expected(x), x, case.g)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@given(cases)
def test_the_backward_pass_is_the_adjoint(case: Case) -> None:
    x = case.x.clone().requires_grad_()
    view = case.view(x)
    (back,) = torch.autograd.grad(view, x, case.g)
    forward, backward = float((view.detach() * case.g).sum()), float((case.x * back).sum())
    assert forward == pytest.approx(backward, rel=1e-11, abs=1e-11)


@given(cases)
def test_pixels_outside_the_box_neither_count_nor_get_a_slope(case: Case) -> None:
    outside = torch.ones_like(case.x, dtype=torch.bool)
    for k, (top, left, height, width) in enumerate(case.boxes.tolist()):
        outside[k, :, top : top + height, left : left + width] = False
    changed = torch.where(outside, 1e9, case.x)
    assert torch.equal(case.view(changed), case.view(case.x))
    x = case.x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(case.view(x), x, case.g)
    assert not slope[outside].any()


@given(cases)
def test_no_value_leaves_the_range_of_its_image(case: Case) -> None:
    low, high = case.x.amin((1, 2, 3)), case.x.amax((1, 2, 3))
    view = case.view(case.x)
    assert (view.amin((1, 2, 3)) >= low - 1e-12).all()
    assert (view.amax((1, 2, 3)) <= high + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_type_is_kept(dtype: torch.dtype) -> None:
    case = Case(0, 4, 9, 9, 6)
    x = case.x.to(dtype).requires_grad_()
    view = case.view(x)
    assert view.dtype == dtype
    assert torch.autograd.grad(view.sum(), x)[0].dtype == dtype
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(
        view.detach().double(), case.expected(case.x), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize(("size", "area"), [(256, 0.08), (40, 0.08), (3, 0.08), (1, 0.08), (9, 1)])
def test_boxes_equal_the_transcription(size: int, area: float) -> None:
    transform = ResizedCrop(5, flip=False, area=area)
    boxes = random_boxes(500, size, area, Random(3, "views"))
    expected = oracle_parts.draw_boxes(500, size, transform, Random(3, "views"))
    assert boxes.tolist() == [[b.top, b.left, b.height, b.width] for b in expected]


def by_get_params(count: int, size: int) -> np.ndarray:
    torch.manual_seed(0)
    x = torch.zeros(1, size, size)
    draws = [RandomResizedCrop.get_params(x, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    return np.array(draws)


@pytest.mark.parametrize("size", [256, 12])
def test_boxes_are_distributed_as_those_of_torchvision(size: int) -> None:
    theirs = by_get_params(4000, size).T
    ours = random_boxes(4000, size, 0.08, Random(0, "views")).numpy().T

    def features(draws: np.ndarray) -> list[np.ndarray]:
        top, left, height, width = draws
        return [height * width, np.log(width / height), height, width, top, left, top - left]

    for one, other in zip(features(ours), features(theirs), strict=True):
        assert stats.ks_2samp(one, other).pvalue > 0.01
        at = np.linspace(0.05, 0.95, 19)
        # A whole number may fall on either side of a quantile.
        tolerance = max(1, 0.06 * (other.max() - other.min()))
        assert np.abs(np.quantile(one, at) - np.quantile(other, at)).max() <= tolerance


def test_the_place_of_a_box_is_uniform() -> None:
    top, left, height, width = random_boxes(20_000, 16, 0.08, Random(0, "views")).T.numpy()
    for at, side in ((top, height), (left, width)):
        free = at[side == 9]  # eight places
        assert stats.chisquare(np.bincount(free, minlength=8)).pvalue > 0.01
    across, down = (left + 0.5) / (17 - width), (top + 0.5) / (17 - height)
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.03


@pytest.mark.parametrize("size", [1, 2, 7, 33, 256])
def test_boxes_lie_inside(size: int) -> None:
    top, left, height, width = random_boxes(20_000, size, 0.08, Random(1, "views")).T
    assert min(int(top.min()), int(left.min())) == 0
    assert min(int(height.min()), int(width.min())) >= 1
    assert int((top + height).max()) == size
    assert int((left + width).max()) == size


def test_a_draw_of_the_last_place_is_not_one_too_far() -> None:
    """In float32, (1 - 2^-24) * 33 is 33."""

    class Last(Random):
        def uniform(
            self, *shape: int, low: float = 0.0, high: float = 1.0, images: int = 0
        ) -> Tensor:
            return torch.full(shape, low + (high - low) * (1 - 2**-24))

    for size in range(1, 300):
        top, left, height, width = random_boxes(1, size, 0.08, Last(0, "views"))[0].tolist()
        assert top + height <= size
        assert left + width <= size


def test_where_nothing_fits_the_whole_image_is_taken() -> None:
    class Wide(Random):
        def uniform(
            self, *shape: int, low: float = 0.0, high: float = 1.0, images: int = 0
        ) -> Tensor:
            return torch.full(shape, high)

    assert random_boxes(3, 20, 0.5, Wide(0, "views"))[:, 2:].tolist() == [[20, 20]] * 3


def test_the_first_draw_that_fits_is_taken() -> None:
    class Listed(Random):
        def uniform(
            self, *shape: int, low: float = 0.0, high: float = 1.0, images: int = 0
        ) -> Tensor:
            values = torch.full(shape, high)
            if shape == (10, 2):
                # The first image fits at draw 3, the second at once; both again later.
                middle = 0.25 if low > 0 else 0.0
                values[3:, 0], values[:, 1] = middle, middle
                values[5:, 0], values[2:, 1] = low, low
            return values

    boxes = random_boxes(2, 20, 0.08, Listed(0, "views"))
    assert boxes[:, 2:].tolist() == [[10, 10], [10, 10]]


def test_a_transform_is_a_box_then_a_mirror() -> None:
    x = torch.rand(24, 3, 12, 12, dtype=torch.float64)
    for flip in (True, False):
        transform = ResizedCrop(8, flip=flip)
        views = random_transform(x, transform, Random(0, "t"))
        expected = oracle_parts.draw_views(24, transform, Random(0, "t"), side=12)
        assert flip == any(view.flip for view in expected)
        theirs = torch.stack([view.of(image) for view, image in zip(expected, x, strict=True)])
        torch.testing.assert_close(views, theirs, rtol=1e-12, atol=1e-12)


def test_half_of_the_images_are_mirrored() -> None:
    ramp = torch.arange(32.0).expand(4000, 1, 32, 32)
    view = random_transform(ramp, ResizedCrop(8, flip=True), Random(2, "t"))
    mirrored = int((view[:, 0, 0, 0] > view[:, 0, 0, -1]).sum())
    assert stats.binomtest(mirrored, 4000).pvalue > 0.01


def test_the_same_seed_gives_the_same_views_and_the_next_call_others() -> None:
    x, transform, random = torch.rand(32, 3, 16, 16), ResizedCrop(8, flip=True), Random(0, "t")
    first, second = (random_transform(x, transform, random) for _ in range(2))
    assert torch.equal(first, random_transform(x, transform, Random(0, "t")))
    assert not torch.equal(first, random_transform(x, transform, Random(1, "t")))
    assert not torch.equal(first, second)
    assert math.prod(first.shape[2:]) == 64


@pytest.mark.filterwarnings("default")  # some of torch's own
def test_a_view_compiles_whole() -> None:
    """The compiler refuses `.item()`, branches on values and shapes that depend on them."""
    x = torch.rand(4, 3, 16, 16)

    def view(x: Tensor, random: Random) -> Tensor:
        return random_transform(x, ResizedCrop(8, flip=True), random)

    torch._dynamo.reset()
    compiled = torch.compile(view, backend="eager", fullgraph=True)
    for seed in (3, 4):
        torch.testing.assert_close(compiled(x, Random(seed, "t")), view(x, Random(seed, "t")))
    torch._dynamo.reset()
