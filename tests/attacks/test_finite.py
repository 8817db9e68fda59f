"""Noise that is NaN or infinite stops the method, naming step and image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Interrupting, Interruption, make_harness, random_images
from torch import Tensor, nn

from unlearnable_bench import Attack, Learner, Radius, UserError, add_noise
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.rem import REM
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.attacks.tap import TAP
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.schedule import Training


class Root(nn.Module):
    """Logits whose slope is infinite at one image: sqrt at its distance from `image`, 0."""

    def __init__(self, image: Tensor, classes: int) -> None:
        super().__init__()
        self.register_buffer("image", image)
        self.head = nn.Linear(1, classes)

    def forward(self, x: Tensor) -> Tensor:
        near = (x - self.image).abs().amax((1, 2, 3)) < 0.2
        value: Tensor = self.head(x.mean((1, 2, 3), keepdim=False)[:, None])
        return value * torch.where(near, float("nan"), 1.0)[:, None]


@dataclass(frozen=True, kw_only=True)
class Breaking(Learner):
    """A network that knows no finite slope near one image."""

    image: Tensor

    def build(self, classes: int, size: int) -> nn.Module:
        return Root(self.image, classes)


ROW = 17
SHORT = {"steps": 3, "batch_size": 10, "noise_steps": 2, "attack_steps": 2, "samples": 2, "lr": 0.0}
CASES = [
    (SEM(**SHORT), "surrogate|extraction"),
    (REM(**SHORT), "surrogate|extraction"),
    (EM(variant="misaligned", steps=3, batch_size=10, noise_steps=2, lr=0.0), "surrogate"),
    (EM(rounds=2, batch_size=10, batches=1, lr=0.0), "rounds"),
    (TAP(steps=2, batch_size=10), "attack"),
]


@pytest.mark.parametrize(("attack", "loop"), CASES, ids=lambda case: str(case)[:20])
def test_the_step_and_the_image_are_named(attack: Attack, loop: str) -> None:
    images = random_images()
    image = torch.tensor(images.images[ROW]).permute(2, 0, 1) / 255
    harness = make_harness(learner=Breaking(image=image), pad=0, flip=False)
    harness.training = Training(steps=1, lr=0.0, batch_size=1)
    message = rf"the noise of image {ROW} met NaN or infinity \(({loop}), step \d\); lower"
    with pytest.raises(UserError, match=message):
        attack.generate(images, harness)


def test_the_first_step_is_the_one_named_also_after_an_interruption(tmp_path: Path) -> None:
    def run(*, before: int | None) -> None:
        harness = make_harness()
        harness.checkpoint = Checkpoint(tmp_path / "state.safetensors", interval=0)
        state = torch.zeros(1)
        harness.keep(state=state)
        if before is not None:
            harness.progress = Interrupting("steps", before)
        for step in harness.loop("steps", 9):
            noise = torch.zeros(4, 3, 2, 2)
            if step in {5, 6}:
                noise[step - 4, 0, 1, 1] = float("inf")
            harness.watch(noise, torch.tensor([10, 11, 12, 13]))

    with pytest.raises(Interruption):
        run(before=5)
    with pytest.raises(UserError, match=r"image 11 met NaN or infinity \(steps, step 5\)"):
        run(before=None)


def test_finite_noise_passes() -> None:
    harness = make_harness()
    for _ in harness.loop("steps", 3):
        harness.watch(torch.zeros(2, 3, 2, 2), torch.tensor([0, 1]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_noise_that_is_not_finite_is_never_added(value: float) -> None:
    images = random_images(count=5)
    noise = np.zeros(images.images.shape)
    noise[3, 1, 2, 0] = value
    with pytest.raises(UserError, match="the noise of image 3 is NaN or infinite"):
        add_noise(images.images, noise, Radius("8/255"))
