"""A surrogate trained on the clean images, for methods that attack a finished network."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unlearnable_bench.contract import Defense
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness, Network, Random, Training, train
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.images import ImageSet
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.files import locked, replacing


def clean_network(images: ImageSet, harness: Harness) -> Network:
    """Return the harness's surrogate trained on clean images as a learner would be, in eval mode.

    Trained once for the same data, schedule and seed, then kept in `harness.weights`.
    Its weights are not those of the learner of the same seed.

    Raises:
        UserError: the file with its weights is damaged.
    """
    weights = harness.weights
    apart = replace(
        harness,
        seed=int(Random(harness.seed, "clean surrogate").integers(1 << 20, 1)),
        checkpoint=Checkpoint(weights and weights.with_suffix(".partial")),
    )
    if weights is None:
        return _trained(images, apart)
    with ExitStack() as stack:
        with apart.times.on("warmup"):  # of several processes that want it one trains it
            stack.enter_context(locked(weights.with_suffix(".lock"), wait=True))
        if weights.exists():
            return _kept(weights, apart.network(images), apart)
        model = _trained(images, apart)
        with replacing(weights, alone=True) as temporary:
            save_file({name: t.contiguous() for name, t in model.state_dict().items()}, temporary)
        weights.with_suffix(".partial").unlink(missing_ok=True)
    return model


def _trained(images: ImageSet, harness: Harness) -> Network:
    schedule = harness.training or Training()
    anything = images.subset(np.arange(1))  # nobody asks how well it does
    return train(images, anything, Defense(), Radius(), schedule, harness).model.eval()


def _kept(weights: Path, model: Network, harness: Harness) -> Network:
    try:
        model.load_state_dict(load_file(weights, str(harness.device)))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{weights} is damaged ({reason}); remove it") from error
    return model.eval()
