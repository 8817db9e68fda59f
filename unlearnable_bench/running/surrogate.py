"""Finished surrogates: trained on the clean images, or kept with the noise that they made."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unlearnable_bench.contract import Defense
from unlearnable_bench.errors import UserError
from unlearnable_bench.files import locked, replacing
from unlearnable_bench.harness import Harness, Network, Random
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.weights import read_tensors
from unlearnable_bench.images import ImageSet
from unlearnable_bench.radius import Radius
from unlearnable_bench.running.training import train
from unlearnable_bench.schedule import Training


def clean_network(images: ImageSet, harness: Harness, rho_a: Radius = Radius()) -> Network:
    """Return the harness's surrogate trained on clean images as a learner would be, in eval mode.

    Trained once for the same data, schedule and seed, then kept in `harness.weights`.
    Its weights are not those of the learner of the same seed.

    Args:
        images: the clean training set.
        harness: with `training`, the schedule (of adversarial training where rho_a is above 0),
            and `weights`, the file of `PoisonPlan.network_key` for the same two.
        rho_a: radius of adversarial training; 0 trains normally.

    Raises:
        UserError: the file with its weights is damaged.
    """
    harness.ask("clean")
    weights = harness.weights
    apart = replace(
        harness,
        declared=None,
        seed=int(Random(harness.seed, "clean surrogate").integers(1 << 20, 1)),
        checkpoint=Checkpoint(weights and weights.with_suffix(".partial")),
    )
    if weights is None:
        return _trained(images, apart, rho_a)
    with ExitStack() as stack:
        with apart.times.on("warmup"):  # of several processes that want it one trains it
            stack.enter_context(locked(weights.with_suffix(".lock"), wait=True))
        if weights.exists():
            return _kept(weights, apart.network(images), apart)
        model = _trained(images, apart, rho_a)
        with replacing(weights, alone=True) as temporary:
            save_file({name: t.contiguous() for name, t in model.state_dict().items()}, temporary)
        weights.with_suffix(".partial").unlink(missing_ok=True)
    return model


def final_surrogate(images: ImageSet, harness: Harness, path: Path) -> Network:
    """Return the network that made a poison, as it was when the noise was extracted, in eval mode.

    Args:
        images: the training set.
        harness: of the same surrogate as when the poison was made.
        path: `ResultsFolder.network` of the poison's key.

    Raises:
        UserError: there is no such file, it is damaged, or it is of another architecture.
    """
    if not path.exists():
        raise UserError(
            f"{path} is missing: the method keeps no surrogate, or the poison was made by ubench "
            "0.1; remove the poison's file, if there is one, and run the command again"
        )
    model = harness.network(images)
    try:
        model.load_state_dict(read_tensors(path, harness.device)[0])
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{path} is damaged ({reason}); remove it and its poison") from error
    return model.eval()


def _trained(images: ImageSet, harness: Harness, rho_a: Radius) -> Network:
    schedule = harness.training or Training()
    anything = images.subset(np.arange(1))  # nobody asks how well it does
    return train(images, anything, Defense(), rho_a, schedule, harness).model.eval()


def _kept(weights: Path, model: Network, harness: Harness) -> Network:
    try:
        model.load_state_dict(load_file(weights, str(harness.device)))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{weights} is damaged ({reason}); remove it") from error
    return model.eval()
