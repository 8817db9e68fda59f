"""Robust noise with a regularised surrogate equals its literal transcription."""

from typing import Any

import attack_checks
import numpy as np
import oracles
import pytest
import torch
from attack_table import ALTERNATION
from helpers import make_harness, random_images
from torch import Tensor, nn

from unlearnable_bench import Radius
from unlearnable_bench.attacks.asr import ASR


@pytest.mark.parametrize(
    ("changed", "transform"),
    [
        ({}, {}),
        ({"squared": True}, {}),
        ({"weight": 5.0}, {}),
        ({"weight": 0.0}, {}),
        ({"rho_a": Radius("0")}, {}),
        ({}, {"seed": 5, "flip": False}),
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], transform: dict[str, Any]) -> None:
    attack, images = ASR(**ALTERNATION | changed), random_images()
    harness = make_harness(**transform)
    network = attack_checks.starting_network(harness, images)
    expected = oracles.asr(network, images, harness.transform, harness.seed, attack)
    poison = attack.generate(images, harness)
    np.testing.assert_array_equal(poison.images, expected)
    attack_checks.check_budget(poison, images)


class Constant(nn.Module):
    """Returns the same logits for every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


@pytest.mark.parametrize(("squared", "term"), [(False, 0.5**0.5), (True, 0.5), (None, 0.5**0.5)])
def test_certain_predictions_on_clean_images_are_punished(
    squared: bool | None, term: float
) -> None:
    """Of 2 classes: |(1, 0) - (1/2, 1/2)| is the root of 1/2; CE of the true class is 0."""
    x, y = torch.zeros(3, 3, 2, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    attack = ASR(squared=squared, weight=2.0)
    certain = attack.surrogate_loss(Constant([99.0, 0.0]), x, y, lambda: x)
    assert float(certain) == pytest.approx(2 * term)
    chance = attack.surrogate_loss(Constant([0.0, 0.0]), x, y, lambda: x)
    assert float(chance) == pytest.approx(float(torch.tensor(2.0).log()))


def test_above_ten_classes_the_distance_is_squared() -> None:
    """Of 11 classes: (10/11)^2 + 10 / 11^2 = 10/11."""
    x, y = torch.zeros(3, 3, 2, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    loss = ASR().surrogate_loss(Constant([99.0] + [0.0] * 10), x, y, lambda: x)
    assert float(loss) == pytest.approx(10 / 11)
