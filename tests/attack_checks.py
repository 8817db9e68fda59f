"""What the tests of all attacks have in common."""

import copy
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Interrupting, Interruption, Linear, Tiny, make_harness, random_images
from torch import Tensor, nn

from unlearnable_bench import Attack, Harness, ImageSet, Learner, Poison
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.images import Pixels
from unlearnable_bench.schedule import Training

# Of the network trained on clean images, for attacks that ask for it.
CLEAN_TRAINING = Training(steps=4, batch_size=10, lr=0.05)


def starting_network(harness: Harness, images: ImageSet) -> nn.Module:
    """Return a copy of the network that `generate` will start from."""
    return copy.deepcopy(harness.network(images))


def check_same_seed_same_poison(
    attack: Attack, images: ImageSet, learner: Learner | None = None
) -> None:
    def poisoned(seed: int) -> Pixels:
        harness = make_harness("fp32", seed=seed, learner=learner)
        harness.training = CLEAN_TRAINING
        return attack.generate(images, harness).images

    first, again, other = map(poisoned, (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def check_fp32_agrees(attack: Attack) -> None:
    images = random_images()
    single = attack.generate(images, make_harness("fp32")).images
    double = attack.generate(images, make_harness("fp64")).images
    assert (single == double).mean() > 0.995


def check_resumes(
    attack: Attack,
    images: ImageSet,
    folder: Path,
    stops: Iterable[tuple[str, int]],
    learner: Learner | None = None,
) -> None:
    """Interrupt before each of the stops in turn; the poison is that of one piece."""

    def harness_for_it() -> Harness:
        made = make_harness(learner=learner)
        made.training = CLEAN_TRAINING
        return made

    whole = attack.generate(images, harness_for_it())

    def run(stop: tuple[str, int] | None) -> Poison:
        harness = harness_for_it()
        harness.checkpoint = Checkpoint(folder / "checkpoint.safetensors", interval=0)
        if stop is not None:
            harness.progress = Interrupting(*stop)
        return attack.generate(images, harness)

    for stop in stops:
        with pytest.raises(Interruption):
            run(stop)
    resumed = run(None)
    np.testing.assert_array_equal(resumed.images, whole.images)
    assert resumed.notes == whole.notes


def check_resumes_within_a_step(
    attack: Attack, folder: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill in the middle of a step: what the step had half done must not survive."""
    images = random_images()
    whole = attack.generate(images, make_harness())
    evaluate, calls = module.input_gradient, 0

    def dying(*args: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise Interruption
        gradient: Tensor = evaluate(*args)
        return gradient

    def harness() -> Harness:
        made = make_harness()
        made.checkpoint = Checkpoint(folder / "checkpoint.safetensors", interval=0)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(module, "input_gradient", dying)
        with pytest.raises(Interruption):
            attack.generate(images, harness())
    assert (folder / "checkpoint.safetensors").exists()
    np.testing.assert_array_equal(attack.generate(images, harness()).images, whole.images)


def check_noise_belongs_to_its_image(attack: Attack) -> None:
    """With a fixed surrogate, another image in row j changes row j and no other."""
    frozen = dataclasses.replace(attack, lr=0.0)
    images = random_images()
    pixels, labels, row = images.images.copy(), images.labels.copy(), 7
    pixels[row] = 255 - pixels[row]
    labels[row] = (labels[row] + 1) % images.classes
    changed = ImageSet(pixels, labels, images.classes)
    noise, noise_changed = (
        frozen.generate(given, make_harness(learner=Linear())).images.astype(int)
        - given.images.astype(int)
        for given in (images, changed)
    )
    differs = (noise != noise_changed).any(axis=(1, 2, 3))
    assert np.flatnonzero(differs).tolist() == [row]


def check_noise_lowers_each_loss(attack: Attack) -> None:
    """With a fixed surrogate and no transform, each image's own noise makes it easier."""
    frozen = dataclasses.replace(attack, lr=0.0)
    images = random_images()
    harness = make_harness(learner=Linear(), pad=0, flip=False)
    poison = frozen.generate(images, harness)
    network = harness.network(images)
    labels = torch.tensor(images.labels)

    def losses(pixels: np.ndarray) -> Tensor:
        x = torch.tensor(pixels).permute(0, 3, 1, 2) / 255.0
        with torch.no_grad():
            return nn.functional.cross_entropy(network(x.double()), labels, reduction="none")

    assert (losses(poison.images) < losses(images.images)).all()


def check_budget(poison: Poison, images: ImageSet) -> None:
    assert poison.images.dtype == np.uint8
    change = np.abs(poison.images.astype(int) - images.images.astype(int)).max(initial=0)
    assert change <= 255 * poison.budget.radius.value  # type: ignore[union-attr]
    assert poison.budget.excess(images.images, poison.images) is None


def counted_passes(
    attack: Attack, images: ImageSet, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Count single images through the backward pass: input gradients and weight updates."""
    evaluate, passes = module.input_gradient, 0

    def counting(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nonlocal passes
        passes += len(x)
        gradient: Tensor = evaluate(model, x, y)
        return gradient

    learner = Tiny()
    harness = make_harness(learner=learner)
    made = harness.network

    def network(given: ImageSet, *rest: Any, **more: Any) -> nn.Module:
        model = made(given, *rest, **more)

        def count_update(module: nn.Module, args: tuple[Tensor]) -> None:
            nonlocal passes
            if module.training:
                passes += len(args[0])

        model.register_forward_pre_hook(count_update)
        return model

    with monkeypatch.context() as patch:
        patch.setattr(module, "input_gradient", counting)
        patch.setattr(harness, "network", network)
        attack.generate(images, harness)
    return passes
