"""Robustness of a surrogate and of a noise: what `ubench correlate` holds against protection.

Definitions 1 and 2 of the SEM paper (Liu et al., AAAI 2024) as we read them, their formulas not
being available: minus the mean worst-case cross-entropy on the poison within rho_a, of the
surrogate that made it, and of one reference network that is the same for every noise.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench.harness import (
    Harness,
    Network,
    Random,
    central_view,
    input_gradient,
    pgd,
    sweep,
)
from unlearnable_bench.harness.timesheet import Timesheet
from unlearnable_bench.identity import as_json
from unlearnable_bench.images import ImageSet, Pixels
from unlearnable_bench.planning.plan import Probe
from unlearnable_bench.results.robustness import FORMAT, Robustness
from unlearnable_bench.running.surrogate import clean_network, final_surrogate

_BATCH = 500  # images at once


def measure(
    probe: Probe,
    poisoned: Pixels,
    harness: Harness,
    surrogate: Path,
    reference: Path,
    environment: dict[str, Any],
) -> Robustness:
    """Measure one poison.

    Args:
        probe: what is measured.
        poisoned: the poison, uint8 [N, H, W, 3].
        harness: of the poison's surrogate.
        surrogate: file of the poison's final surrogate.
        reference: file of the reference network; trained and kept there if it is not.
        environment: versions and hardware, for the measurement.

    Raises:
        UserError: the poison kept no surrogate.
    """
    clean = probe.poison.data.train
    order = Random(0, "robustness images").permutation(len(clean)).numpy()
    sample = clean.replaced(poisoned).subset(order[: probe.images])
    own = final_surrogate(clean, harness, surrogate)
    # One network for all noises, whatever their seeds.
    apart = replace(harness, seed=0, training=probe.training, weights=reference, times=Timesheet())
    fixed = clean_network(clean, apart, probe.rho_a)
    surrogate_loss, surrogate_accuracy = under_attack(own, sample, probe, harness)
    noise_loss, noise_accuracy = under_attack(fixed, sample, probe, harness)
    spent = harness.times.read()
    return Robustness(
        format=FORMAT,
        key=probe.key,
        identity=as_json(probe.identity),
        poison=probe.poison.key,
        rho_a=str(probe.rho_a),
        surrogate_loss=surrogate_loss,
        surrogate_accuracy=surrogate_accuracy,
        noise_loss=noise_loss,
        noise_accuracy=noise_accuracy,
        seconds={kind: spent.get(kind, 0.0) for kind in ("work", "warmup")},
        environment=environment,
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def under_attack(
    model: Network, images: ImageSet, probe: Probe, harness: Harness
) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy in percent under PGD, in eval mode.

    Args:
        model: images in [0, 1] to logits.
        images: the images and labels that are attacked.
        probe: radius and number of steps; a step is 2 rho_a / steps, the start uniform.
        harness: device and precision.
    """
    pixels, labels = harness.tensors(images)
    random = Random(0, "robustness", harness.device)
    radius, step = float(probe.rho_a), probe.rho_a.step_size(probe.steps)
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=harness.device)
    right = torch.zeros((), dtype=torch.int64, device=harness.device)
    for index, fresh in sweep(len(images), _BATCH, harness.device):
        x, y = central_view(harness.unit(pixels[index]), harness.transform), labels[index]

        def gradient(at: Tensor, y: Tensor = y) -> Tensor:
            return input_gradient(model, at, y)

        attacked = pgd(x, gradient, radius, step, probe.steps, random)
        with torch.no_grad():
            logits = model.uncompiled(attacked)
        each = functional.cross_entropy(logits.double(), y, reduction="none")
        loss += (each * fresh).sum()
        right += ((logits.argmax(1) == y) & fresh).sum()
    return float(loss) / len(images), 100 * int(right) / len(images)
