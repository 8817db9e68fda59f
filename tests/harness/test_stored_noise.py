"""Noise between sign steps: whole numbers for large sets, with the same results."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import Pooled, make_harness, small_data
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench import Attack, Radius
from unlearnable_bench.attacks.aue import AUE
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.mi_ue import MIUE
from unlearnable_bench.harness import StoredNoise, stored_noise

CPU = torch.device("cpu")
USUAL = Radius("8/255")
IMAGENET = (129_395, 3, 256, 256)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every set as large."""
    monkeypatch.setattr(stored_noise, "LARGE", 0)


@pytest.mark.parametrize(
    ("rho_u", "step", "dtype"),
    [
        ("8/255", "0.8/255", torch.int8),
        ("8/255", "0.2/255", torch.int8),
        ("16/255", "0.1/255", torch.int16),
        ("8/255", "0.123/255", torch.int16),
        ("8/255", "0.12345/255", torch.float32),
    ],
)
def test_noise_of_a_large_set_is_stored_in_the_smallest_type(
    rho_u: str, step: str, dtype: torch.dtype
) -> None:
    def stored(shape: tuple[int, ...]) -> torch.Tensor:
        meta = torch.device("meta")
        return StoredNoise(shape, Radius(rho_u), Radius(step).value, torch.float32, meta).tensor

    assert stored(IMAGENET).dtype == dtype
    assert stored((50_000, 3, 32, 32)).dtype == torch.float32  # CIFAR's results are unchanged


def test_noise_that_is_a_mean_keeps_its_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    images = small_data(train=40).train

    def made() -> np.ndarray:
        return EM(variant="classwise", rounds=2).generate(images, make_harness()).images

    usual = made()
    monkeypatch.setattr(stored_noise, "LARGE", 0)
    assert (made() == usual).all()


@pytest.mark.usefixtures("large")
@given(
    steps=st.lists(st.integers(-1, 1), min_size=1, max_size=30),
    pixel=st.integers(0, 255),
    step=st.sampled_from(["0.8/255", "0.2/255", "1/255", "0.3/255", "0.75/255"]),
)
def test_sign_steps_lose_nothing(steps: list[int], pixel: int, step: str) -> None:
    size, bound = Radius(step).value, USUAL.value
    noise = StoredNoise((1, 1, 1, 1), USUAL, size, torch.float32, CPU)
    assert noise.tensor.dtype == torch.int8
    x, index, exact = torch.tensor(pixel / 255), torch.tensor([0]), Fraction(0)
    for sign in steps:
        delta = (noise.at(index) + sign * float(size)).clamp(-float(bound), float(bound))
        noise.put(index, (x + delta).clamp(0, 1) - x)
        exact = min(max(exact + sign * size, -bound), bound)
        exact = min(max(Fraction(pixel, 255) + exact, Fraction(0)), Fraction(1))
        exact -= Fraction(pixel, 255)
        assert noise.at(index).item() == pytest.approx(float(exact), abs=1e-8)
    if (255 * exact).denominator != 2:  # not halfway between two levels
        assert noise.levels().item() == round(255 * exact)


@pytest.mark.parametrize(
    "attack",
    [EM(rounds=3, noise_steps=3), AUE(epochs=2), MIUE(epochs=1, sweep_size=16)],
    ids=["em", "aue", "mi-ue"],
)
def test_a_large_set_has_the_poison_of_a_small_one(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = small_data().train

    def made() -> np.ndarray:
        return attack.generate(images, make_harness(learner=Pooled())).images

    usual = made()
    assert not (usual == images.images).all()
    monkeypatch.setattr(stored_noise, "LARGE", 0)
    types = []
    plain = StoredNoise.put

    def put(self: StoredNoise, index: torch.Tensor, noise: torch.Tensor) -> None:
        types.append(self.tensor.dtype)
        plain(self, index, noise)

    monkeypatch.setattr(StoredNoise, "put", put)
    assert (made() == usual).all()
    assert {*types} == {torch.int8}
