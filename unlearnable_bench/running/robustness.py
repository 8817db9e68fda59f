"""Robustness of surrogate and noise, which `ubench correlate` compares with protection.

Our reading of Definitions 1 and 2 of the SEM paper (https://arxiv.org/abs/2311.13091), whose
formulas were not available to us: the negative mean worst-case cross-entropy on the poison within
rho_a, of the surrogate that made the poison and of a reference network shared by all noises.
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
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.running.surrogate import clean_network, final_surrogate

_BATCH = 500  # number of images in a batch


def measure(
    probe: Probe,
    poisoned: Pixels,
    harness: Harness,
    surrogate: Path,
    reference: Path,
    environment: dict[str, Any],
) -> Robustness:
    """Measure the robustness of a poison.

    Args:
        probe: poison, radius and settings of the measurement.
        poisoned: the poison, uint8 [N, H, W, 3].
        harness: the harness of the poison's surrogate.
        surrogate: file of the poison's final surrogate.
        reference: file of the reference network, which is trained and written if it is missing.
        environment: versions and hardware, for the result.

    Raises:
        UserError: the file of the surrogate is missing or damaged.
    """
    clean = probe.poison.data.train
    order = Random(0, "robustness images").permutation(len(clean)).numpy()
    sample = clean.replaced(poisoned).subset(order[: probe.images])
    own = final_surrogate(clean, harness, surrogate)
    # The same network for all noises of any seed.
    apart = replace(
        harness,
        seed=0,
        training=probe.training,
        weights=reference,
        weights_rho_a=probe.rho_a,
        times=Timesheet(),
    )
    fixed = clean_network(clean, apart, probe.rho_a)
    surrogate_loss, surrogate_accuracy = under_attack(own, sample, probe, harness)
    noise_loss, noise_accuracy = under_attack(fixed, sample, probe, harness)
    spent = harness.times.read()
    return Robustness(
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
    """Return mean cross-entropy and accuracy under PGD with step size 2 rho_a / steps.

    Args:
        model: maps images in [0, 1] to logits; used in eval mode.
        images: the attacked images with their labels.
        probe: radius and number of steps.
        harness: device and precision.

    Returns:
        The mean cross-entropy, and the accuracy in percent.
    """
    pixels, labels = harness.tensors(images)
    random = Random(0, "robustness", harness.device)
    radius, step = float(probe.rho_a), probe.rho_a.step_size(probe.steps)
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=harness.device)
    right = torch.zeros((), dtype=torch.int64, device=harness.device)
    for index, is_new in sweep(len(images), _BATCH, harness.device):
        x, y = central_view(harness.unit(pixels[index]), harness.transform), labels[index]

        def gradient(at: Tensor, y: Tensor = y) -> Tensor:
            return input_gradient(model, at, y)

        attacked = pgd(x, gradient, radius, step, probe.steps, random)
        with torch.no_grad():
            logits = model.uncompiled(attacked)
        each = functional.cross_entropy(logits.double(), y, reduction="none")
        loss += (each * is_new).sum()
        right += ((logits.argmax(1) == y) & is_new).sum()
    return float(loss) / len(images), 100 * int(right) / len(images)
