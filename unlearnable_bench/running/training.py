"""Training of a learner on (poisoned) images under a defense, and its test on clean images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.batches import ShuffledBatches
from unlearnable_bench.harness.core import Harness
from unlearnable_bench.harness.device import wait
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.optimizer import set_lr, sgd
from unlearnable_bench.harness.step import one_step
from unlearnable_bench.harness.transform import central_view, random_transform
from unlearnable_bench.harness.watch import refuse_divergence
from unlearnable_bench.images import ImageSet
from unlearnable_bench.radius import Radius
from unlearnable_bench.schedule import Training, scheduled_lr

if TYPE_CHECKING:
    from unlearnable_bench.contract import Defense
    from unlearnable_bench.harness.checkpoint import Stateful


@dataclass(frozen=True)
class Outcome:
    """The outcome of training.

    Attributes:
        model: the trained network after the chosen epoch.
        accuracy: clean test accuracy in percent after each epoch; of the chosen one after `refit`.
        chosen: index of the chosen epoch: the last, or the best on validation images.
        train_accuracy: accuracy in percent of `model` on the training images without
            augmentation (on central views of images larger than views).
    """

    model: Network
    accuracy: tuple[float, ...]
    chosen: int
    train_accuracy: float


def train(
    poisoned: ImageSet,
    test: ImageSet,
    defense: "Defense",
    rho_a: Radius,
    training: Training,
    harness: Harness,
    validation: ImageSet | None = None,
    reached: Callable[[Network, int], None] | None = None,
) -> Outcome:
    """Train the harness's learner and test it on clean images after each epoch.

    `harness.times` counts the defense's preparation of images ("preparation") and all
    evaluations ("evaluation") separately.

    Args:
        poisoned: the training images.
        test: clean test images.
        defense: the defense.
        rho_a: radius of adversarial training; 0: standard training.
        training: the schedule.
        harness: device, seed, learner, checkpoint.
        validation: held-out clean images, for `refit`; if the defense chooses the epoch, the first
            with the highest accuracy on them is used instead of the last one.
        reached: called after each epoch with the network, in training mode, and the number of
            epochs done. A resumed run does not repeat its calls.

    Raises:
        UserError: the weights became infinite or NaN, or `prepare` returns something else than
            images of the same kind.
    """
    prepared = _prepared(defense, poisoned, harness)
    images, labels = harness.tensors(prepared)
    test_images, test_labels = harness.tensors(test)
    # Already a view's size, unless the test images are training images too.
    test_images = central_view(test_images, harness.transform)
    targets = functional.one_hot(labels, poisoned.classes).to(harness.dtype)
    targets = targets * (1 - training.label_smoothing) + training.label_smoothing / poisoned.classes

    model = harness.network(prepared, "learner")
    optimizer = sgd(
        model,
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.nesterov,
    )
    random = harness.random("training")
    batches = ShuffledBatches(
        len(prepared), training.batch_size, harness.seed, "training order", harness.device
    )
    total = training.total(len(prepared))
    epochs = training.total_epochs(len(prepared))
    accuracies = torch.full((epochs,), float("nan"), dtype=torch.float64)
    state: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    state["accuracies"] = accuracies
    early = None
    if validation and defense.chooses_epoch():
        early = _EarlyStopping(model, harness, validation)
    harness.keep(**state, **(early.state() if early else {}))

    def step(index: Tensor) -> None:
        x = random_transform(harness.unit(images[index]), harness.transform, random)
        x, y = defense.augment(model, x, targets[index], random)
        perturbed = x
        if rho_a:
            perturbed = defense.perturb(model, x, y, rho_a, training.pgd_steps, random)
        optimizer.zero_grad(set_to_none=True)
        defense.loss(model, x, perturbed, y).backward()
        optimizer.step()

    captured = harness.capture(step)
    model.train()
    for k in harness.loop("training", total):
        set_lr(optimizer, scheduled_lr(training.schedule, training.lr, k, total))
        captured(batches[k])
        if (k + 1) % batches.per_epoch == 0 or k + 1 == total:
            wait(harness.device)  # the device may be steps behind
            with harness.times.on("evaluation"):
                epoch = k // batches.per_epoch
                accuracies[epoch] = accuracy(model, test_images, test_labels)
                if early:
                    early.see(epoch)
            if reached:
                with harness.times.on("keeping"):
                    reached(model, epoch + 1)
    # The accuracy of a diverged network is chance, which would look like perfect protection.
    refuse_divergence(model)
    chosen = early.restore() if early else epochs - 1
    with harness.times.on("evaluation"):
        if validation and defense.refit(model, validation, harness):
            accuracies[chosen] = accuracy(model, test_images, test_labels)
        train_accuracy = accuracy(model, central_view(images, harness.transform), labels)
    return Outcome(model, tuple(accuracies.tolist()), chosen, train_accuracy)


def _prepared(defense: "Defense", poisoned: ImageSet, harness: Harness) -> ImageSet:
    """Return the images that the defense prepares, in loops with a checkpoint of their own."""
    apart = harness.apart("preparation")
    with harness.times.on("preparation"):
        prepared = defense.prepare(poisoned, apart)
    if not harness.checkpoint.exists:  # otherwise its times include them
        harness.times.add({"preparation": apart.checkpoint.restored_seconds})
    _check(prepared, poisoned)
    return prepared


def _check(prepared: Any, given: ImageSet) -> None:
    """Refuse prepared images of another kind; a defense may leave out some images."""
    if not isinstance(prepared, ImageSet):
        kind = type(prepared).__name__
        raise UserError(f"the defense's `prepare` returned {kind} instead of an ImageSet")
    size, labels = given.images.shape[1:], prepared.labels
    fits = prepared.images.dtype == np.uint8 and prepared.images.shape == (len(labels), *size)
    if not fits or not len(labels) or prepared.classes != given.classes:
        got = f"{prepared.images.dtype} {list(prepared.images.shape)}, {len(labels)} labels"
        wanted = f"uint8 [N, {', '.join(map(str, size))}] and N labels of {given.classes} classes"
        raise UserError(f"the defense's `prepare` returned {got} instead of {wanted}")


class _EarlyStopping:
    """The weights of the epoch with the highest accuracy on held-out clean images."""

    def __init__(self, model: Network, harness: Harness, validation: ImageSet) -> None:
        self._model = model
        images, self._labels = harness.tensors(validation)
        self._images = central_view(images, harness.transform)
        self._weights = {name: t.detach().clone() for name, t in model.state_dict().items()}
        self._best = torch.full((), -1.0, dtype=torch.float64)
        self._epoch = torch.zeros((), dtype=torch.int64)

    def state(self) -> dict[str, Tensor]:
        weights = {f"best {name}": tensor for name, tensor in self._weights.items()}
        return weights | {"best": self._best, "best epoch": self._epoch}

    def see(self, epoch: int) -> None:
        """Store the weights if they are the best so far."""
        current = accuracy(self._model, self._images, self._labels)
        if current > self._best:
            self._best.fill_(current)
            self._epoch.fill_(epoch)
            for name, tensor in self._model.state_dict().items():
                self._weights[name].copy_(tensor)

    def restore(self) -> int:
        """Load the best weights into the model and return their epoch."""
        self._model.load_state_dict(self._weights)
        return int(self._epoch)


@torch.no_grad()
def accuracy(model: Network, images: Tensor, labels: Tensor, batch: int = 1000) -> float:
    """Return the accuracy in percent, in eval mode.

    Args:
        model: maps images in [0, 1] to logits.
        images: images, uint8 [N, 3, H, W].
        labels: labels, int64 [N].
        batch: number of images in a batch.
    """
    training, dtype = model.training, next(model.parameters()).dtype
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=images.device)
    with one_step():
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            # Not compiled, since it takes a small share of the time.
            logits = model.uncompiled(images[part].to(dtype) / 255)
            right += (logits.argmax(1) == labels[part]).sum()
    model.train(training)
    return 100 * right.item() / len(images)
