"""Trial of a method on a few images, for the estimate of its time on all of them."""

import time

import torch

from unlearnable_bench.harness import Harness, Random
from unlearnable_bench.harness.device import wait
from unlearnable_bench.planning.plan import PoisonPlan

_FEW, _MANY = 64, 192  # numbers of images


def trial_seconds(plan: PoisonPlan, device: torch.device) -> float | None:
    """Estimate the time of a method without a network, which grows linearly with the images.

    The method is run on 64 and on 192 images, a seeded choice.

    Args:
        plan: the poison.
        device: where to compute.

    Returns:
        Seconds for all images; None if the method does not run on so few.
    """
    images = plan.data.train
    order = Random(0, "trial").permutation(len(images)).numpy()
    spent = {}
    try:
        for count in (_FEW, _FEW, _MANY):  # the first also imports what the method needs
            part = images.subset(order[:count])
            harness = Harness(
                device, plan.seed, plan.precision, plan.data.transform, plan.surrogate.plugin
            )
            started = time.perf_counter()
            plan.attack.plugin.generate(part, harness)
            wait(device)
            spent[len(part)] = time.perf_counter() - started
    except (Exception, SystemExit):  # a plugin's, e.g. because the images are too few
        return None
    few, many = min(spent), max(spent)
    if few == many:
        return spent[few]
    slope = max(0.0, (spent[many] - spent[few]) / (many - few))
    return spent[few] + slope * (len(images) - few)
