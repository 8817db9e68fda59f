"""Autoregressive noise: the scan and the search by loops, the budget, and data that do not fit."""

import math

import numpy as np
import pytest
from helpers import make_harness, random_images
from numpy.typing import NDArray

from unlearnable_bench import Harness, ImageSet, Radius, UserError
from unlearnable_bench.attacks import ar
from unlearnable_bench.attacks.ar import AR

Field = NDArray[np.float64]


def bordered(draws: Field, side: int) -> Field:
    """Lay draws [2 side + 2 (side - 2)] into the first two rows and columns of a square."""
    field = np.zeros((side, side))
    field[:2] = draws[: 2 * side].reshape(2, side)
    field[2:, :2] = draws[2 * side :].reshape(side - 2, 2)
    return field


def scanned_by_loops(field: Field, coefficients: list[float]) -> Field:
    """Fill all but the first two rows and columns, and drop the first four, from the recipe."""
    field, side = field.copy(), len(field)
    window = [*coefficients, 0.0]
    for i in range(side - 2):
        for j in range(side - 2):
            total = 0.0
            for a in range(3):
                for b in range(3):
                    if (a, b) != (2, 2):
                        total += window[3 * a + b] * field[i + a, j + b]
            field[i + 2, j + 2] = total
    return field[4:, 4:]


def response_by_loops(pattern: Field, process: Field) -> float:
    """Sum the positive responses of a filter, the window with -1 in its last entry."""
    total, size = 0.0, pattern.shape[1]
    for i in range(size - 2):
        for j in range(size - 2):
            value = 0.0
            for channel in range(3):
                window = pattern[channel, i : i + 3, j : j + 3].ravel()
                value += float(window[:8] @ process[channel]) - float(window[8])
            total += max(value, 0)
    return total


def searched_by_loops(harness: Harness, classes: int, response: float) -> list[Field]:
    """Accept processes one after another at 32 px, of the draws of the attack's stream."""
    random, accepted, channels = harness.random("processes"), [], []
    while True:
        weights = random.normal(ar.CHANNELS, 8).double().cpu().numpy()
        starts = random.normal(ar.CHANNELS, 3, 140).double().cpu().numpy()
        for weight, start in zip(weights, starts, strict=True):
            coefficients = weight / weight.sum()
            patterns = [
                scanned_by_loops(bordered(draws, 36), coefficients.tolist()) for draws in start
            ]
            norms = [math.sqrt((pattern**2).sum()) for pattern in patterns]
            if all(math.isfinite(norm) and norm <= 50 for norm in norms):
                channels.append((coefficients, patterns))
            if len(channels) < 3:
                continue
            process = np.array([coefficients for coefficients, _ in channels])
            whole = np.array([patterns for _, patterns in channels])
            channels = []
            if (np.sqrt((whole**2).sum((0, 2, 3))) > 50).any():
                continue
            last = whole[:, 2] / np.sqrt((whole[:, 2] ** 2).sum())
            if all(response_by_loops(last, other) >= response for other in accepted):
                accepted.append(process)
            if len(accepted) == classes:
                return accepted


def test_the_search_equals_the_one_by_loops() -> None:
    found = ar.processes(2, 8, 4.0, make_harness(seed=5).random("processes"))
    expected = searched_by_loops(make_harness(seed=5), 2, 4.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(2), 1, rtol=1e-12)


@pytest.mark.parametrize("attack", [AR(), AR(norm=0.5), AR(rho_u=Radius("8/255"))], ids=str)
def test_equals_the_scan_of_each_image_by_loops(
    attack: AR, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ar, "_VALUES", 3 * 144 * 4)  # blocks of 4 images
    images = random_images(count=12, size=8)
    poison = attack.generate(images, make_harness(seed=2))
    harness = make_harness(seed=2)
    used = ar.processes(3, 8, 10.0, harness.random("processes"))
    random = harness.random("noise")
    for label in range(3):
        index = np.flatnonzero(images.labels == label)
        for start in range(0, len(index), 4):
            part = index[start : start + 4]
            draws = random.normal(3, len(part), 44).double().cpu().numpy()
            for k, image in enumerate(part):
                fields = [bordered(draws[channel, k], 12) for channel in range(3)]
                noise = np.array(
                    [
                        scanned_by_loops(f, c.tolist())
                        for f, c in zip(fields, used[label], strict=True)
                    ]
                )
                if attack.rho_u is None:
                    noise *= (attack.norm or 8 / 32) / math.sqrt((noise**2).sum())
                else:
                    noise *= 8 / 255 / np.abs(noise).max()
                exact = 255 * np.clip(images.images[image] / 255 + noise.transpose(1, 2, 0), 0, 1)
                assert np.abs(poison.images[image] - exact).max() <= 0.5 + 1e-6
    assert poison.budget.excess(images.images, poison.images) is None


def test_the_norm_is_one_at_32_px_and_three_at_96_px() -> None:
    for size, norm in ((32, 1.0), (96, 3.0)):
        grey = ImageSet(np.full((2, size, size, 3), 128, np.uint8), np.array([0, 1]), 2)
        poison = AR().generate(grey, make_harness())
        assert (poison.budget.norm, poison.budget.radius) == ("l2", norm)
        change = (poison.images.astype(float) - 128) / 255
        np.testing.assert_allclose(np.sqrt((change**2).sum((1, 2, 3))), norm, rtol=0.02)


def test_a_filter_of_the_own_class_responds_least() -> None:
    """The shortcut: the own process predicts each value from its neighbours."""
    grey = ImageSet(np.full((20, 32, 32, 3), 128, np.uint8), np.arange(20) % 4, 4)
    harness = make_harness(seed=1)
    noise = (AR(norm=20.0).generate(grey, harness).images.astype(float) - 128).transpose(0, 3, 1, 2)
    used = ar.processes(4, 32, 10.0, make_harness(seed=1).random("processes"))
    for label, pattern in zip(grey.labels[:8], noise[:8], strict=True):
        responses = [response_by_loops(pattern[:, :12, :12], process) for process in used]
        assert int(np.argmin(responses)) == label


def test_images_below_the_window_are_refused() -> None:
    with pytest.raises(UserError, match="ar has a window of 3x3 pixels, the images are 2 px"):
        AR().check(random_images(size=2))
    AR().check(random_images(size=3))


def test_a_search_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ar, "_DRAWS", 1)
    with pytest.raises(UserError, match=r"ar\.response=1000 .* found 1 of 3 .*; lower it"):
        AR(response=1000.0).generate(random_images(), make_harness())
