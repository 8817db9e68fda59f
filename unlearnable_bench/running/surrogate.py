"""Finished surrogates: trained on the clean images, or stored with the noise that they made."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from unlearnable_bench.contract import Defense
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness, Network, Random
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.weights import read_tensors, write_tensors
from unlearnable_bench.identity import key_of
from unlearnable_bench.images import ImageSet
from unlearnable_bench.radius import Radius
from unlearnable_bench.running.training import train
from unlearnable_bench.schedule import Training
from unlearnable_bench.storage.damage import set_aside
from unlearnable_bench.storage.files import locked


def clean_network(images: ImageSet, harness: Harness, rho_a: Radius = Radius()) -> Network:
    """Return the harness's surrogate trained on clean images as a learner would be, in eval mode.

    Trained once for the same images, schedule and seed, then cached in `harness.weights`.
    Its weights are not those of the learner of the same seed.

    Args:
        images: clean training images: all of the data set or, to hold some out, a subset.
        harness: with `training`, the schedule (of adversarial training if rho_a is above 0),
            and `weights`, the file of `PoisonPlan.network_key` for the same two.
        rho_a: radius of adversarial training; 0 is standard training. Attacks also return it from
            `surrogate_rho_a`.

    Raises:
        UserError: the file with its weights is damaged and cannot be moved.

    Examples:
        >>> import torch
        >>> from unlearnable_bench import Harness, clean_network
        >>> from unlearnable_bench.datasets.shapes import Shapes
        >>> from unlearnable_bench.learners.small_cnn import SmallCNN
        >>> from unlearnable_bench.schedule import Training
        >>> data, schedule = Shapes(train=20, test=10).load(), Training(steps=2, batch_size=10)
        >>> harness = Harness(
        ...     torch.device("cpu"), 0, "fp32", data.transform, SmallCNN(), training=schedule
        ... )
        >>> model = clean_network(data.train, harness)
        >>> model.training, model(torch.zeros(4, 3, 32, 32)).shape
        (False, torch.Size([4, 10]))
    """
    return clean_checkpoints(images, harness, [None], rho_a)[0]


def clean_checkpoints(
    images: ImageSet,
    harness: Harness,
    epochs: Sequence[int | None],
    rho_a: Radius = Radius(),
) -> list[Network]:
    """Return the networks that one training of `clean_network` passed through, in eval mode.

    For methods that use several (SEP, https://arxiv.org/abs/2211.12005). Trained once and cached,
    as `clean_network`; epochs that are asked for later train it again.

    Args:
        images: as for `clean_network`.
        harness: as for `clean_network`.
        epochs: epochs after which the network is wanted, from 1; None: the last.
        rho_a: radius of adversarial training; 0 is standard training.

    Returns:
        One network for each of `epochs`, in their order.

    Raises:
        UserError: an epoch that the schedule does not have, or another radius than that of the
            attack's `surrogate_rho_a`.

    Examples:
        >>> import torch
        >>> from unlearnable_bench import Harness, clean_checkpoints
        >>> from unlearnable_bench.datasets.shapes import Shapes
        >>> from unlearnable_bench.learners.small_cnn import SmallCNN
        >>> from unlearnable_bench.schedule import Training
        >>> data = Shapes(train=20, test=10).load()
        >>> schedule = Training(steps=None, epochs=2, batch_size=10)
        >>> harness = Harness(
        ...     torch.device("cpu"), 0, "fp32", data.transform, SmallCNN(), training=schedule
        ... )
        >>> first, last = clean_checkpoints(data.train, harness, [1, None])
        >>> weights = zip(first.parameters(), last.parameters(), strict=True)
        >>> all(torch.equal(*pair) for pair in weights)
        False
    """
    harness.ask("clean")
    declared = harness.weights_rho_a
    if declared is not None and rho_a != declared:
        raise UserError(
            f"the attack asks for a clean network of rho_a {rho_a} and declares {declared}; "
            f"return Radius({str(rho_a)!r}) from its `surrogate_rho_a`, so that the key of its "
            "results covers the network"
        )
    weights = _weights_of(images, harness)
    apart = replace(
        harness,
        declared=None,
        seed=int(Random(harness.seed, "clean surrogate").integers(1 << 20, 1)),
    )
    schedule = harness.training or Training()
    if not len(images):
        raise UserError("a clean surrogate needs training images; the subset is empty")
    last = schedule.total_epochs(len(images))
    for epoch in epochs:
        if epoch is not None and epoch not in range(1, last + 1):
            raise UserError(
                f"the clean surrogate has no epoch {epoch}: its schedule has 1 to {last}"
            )
    wanted = [None if epoch == last else epoch for epoch in epochs]
    if weights is None:
        apart = replace(apart, checkpoint=Checkpoint(None))
        return _trained(images, apart, rho_a, schedule, wanted)
    paths = {epoch: _path(weights, epoch) for epoch in wanted}
    with ExitStack() as stack:
        stack.enter_context(apart.stop.storing())
        with apart.times.on("warmup"):  # of several processes that want it one trains it
            lock = weights.with_suffix(".lock")
            stack.enter_context(locked(lock, wait=True, tick=apart.stop.check))
        models = {epoch: _cached(path, images, apart) for epoch, path in paths.items()}
        if None in models.values():
            _train_into(
                weights, images, apart, rho_a, schedule, sorted(epoch for epoch in paths if epoch)
            )
            models = {epoch: _cached(path, images, apart) for epoch, path in paths.items()}
        found = [models[epoch] for epoch in wanted]
        if None in found:
            raise UserError(f"{weights.parent} does not hold what was written; check the disk")
        return [model for model in found if model is not None]


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
    try:
        weights, metadata = read_tensors(path, harness.device)
    except (ValueError, OSError) as error:
        raise _unusable(path, error) from error
    model = harness.network(images, centred=metadata.get("centred", True))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise _unusable(path, error) from error
    return model.eval()


def _unusable(path: Path, error: Exception) -> UserError:
    reason = str(error).split("\n")[0]
    return UserError(f"{path} is damaged ({reason}); remove it and its poison")


def set_damaged_aside(path: Path, device: torch.device) -> bool:
    """Return whether the file of a poison's network is damaged; it is then set aside."""
    try:
        if path.is_symlink() and not path.exists():
            raise ValueError("it is a link to nowhere")
        if path.exists():
            read_tensors(path, device)
    except ValueError as error:
        set_aside(path, error, "it is made again")
        return True
    return False


def _weights_of(images: ImageSet, harness: Harness) -> Path | None:
    """Return the file for the network of these images, apart from that of the whole data set."""
    weights, whole = harness.weights, harness.images
    if weights is None or whole is None or images is whole:
        return weights
    sha = hashlib.sha256(np.ascontiguousarray(images.images).data)
    sha.update(np.ascontiguousarray(images.labels).data)
    return weights.with_name(f"{weights.stem}-{sha.hexdigest()[:16]}{weights.suffix}")


def _path(weights: Path, epoch: int | None) -> Path:
    return weights if epoch is None else weights.with_name(f"{weights.stem}-{epoch}.safetensors")


def _train_into(
    weights: Path,
    images: ImageSet,
    harness: Harness,
    rho_a: Radius,
    schedule: Training,
    epochs: Sequence[int],
) -> None:
    """Train and write the last network, and those of `epochs` as soon as they are reached."""
    # Training that was interrupted has written the networks of the epochs that it was asked for.
    asked = f"-{key_of({'epochs': [*epochs]})[:8]}" if epochs else ""
    partial = weights.with_name(f"{weights.stem}{asked}.partial")
    harness = replace(harness, checkpoint=Checkpoint(partial))

    def write(model: Network, epoch: int | None) -> None:
        if not _path(weights, epoch).exists():
            write_tensors(_path(weights, epoch), model.state_dict())

    def reached(model: Network, epoch: int) -> None:
        if epoch in epochs:
            write(model, epoch)

    write(_train(images, harness, rho_a, schedule, reached), None)
    partial.unlink(missing_ok=True)


def _trained(
    images: ImageSet,
    harness: Harness,
    rho_a: Radius,
    schedule: Training,
    epochs: Sequence[int | None],
) -> list[Network]:
    """Train without a folder to write to."""
    found: dict[int | None, Network] = {}

    def reached(model: Network, epoch: int) -> None:
        if epoch in epochs:
            found[epoch] = harness.network(images)
            found[epoch].load_state_dict(model.state_dict())

    found[None] = _train(images, harness, rho_a, schedule, reached)
    return [found[epoch].eval() for epoch in epochs]


def _train(
    images: ImageSet,
    harness: Harness,
    rho_a: Radius,
    schedule: Training,
    reached: Callable[[Network, int], None],
) -> Network:
    anything = images.subset(np.arange(1))  # its accuracy is not used
    return train(images, anything, Defense(), rho_a, schedule, harness, reached=reached).model


def _cached(weights: Path, images: ImageSet, harness: Harness) -> Network | None:
    """Return the network of a file, or None if there is no such file; set a damaged one aside."""
    if not weights.exists():
        return None
    model = harness.network(images)
    try:
        model.load_state_dict(read_tensors(weights, harness.device, bare=True)[0])
    except (ValueError, RuntimeError) as error:
        set_aside(weights, error, "its network is trained again")
        return None
    return model.eval()
