"""Accuracy on poisoned test images, for poisons that are a function of image and class."""

from typing import Any

import numpy as np

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness, Network
from unlearnable_bench.images import Pixels
from unlearnable_bench.planning.plan import Cell
from unlearnable_bench.running.training import accuracy


def poisoned_test_accuracy(
    cell: Cell, poison: Pixels, model: Network, maker: Harness, harness: Harness
) -> float | None:
    """Return the accuracy in percent on poisoned test images; None if there is no such function.

    The attack returns the function without having seen a test image, after the poison is finished
    and the learner is trained; it is applied here.

    Args:
        cell: the cell.
        poison: its poison, uint8 [N, H, W, 3].
        model: the trained learner.
        maker: a harness as for `generate`, for the attack.
        harness: the harness of the training.

    Raises:
        UserError: the function returns images of another type or shape.
    """
    train, test = cell.poison.data.train, cell.poison.data.test
    part = cell.protection
    if part.complement_only or part.classes or train.size != test.size:
        return None
    attack = cell.poison.attack
    maker.declared = attack.plugin.surrogate
    function = attack.plugin.function_of_class(train, poison, maker)
    if function is None:
        return None
    found: Any = function(test)
    fits = isinstance(found, np.ndarray) and found.dtype == np.uint8
    if not fits or found.shape != test.images.shape:
        raise UserError(
            f"the function that attack {attack.name!r} returned from function_of_class must give "
            f"uint8 {list(test.images.shape)} for the test images"
        )
    return accuracy(model, *harness.tensors(test.replaced(found)))
