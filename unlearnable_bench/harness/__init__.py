"""The shared GPU harness: gradients, capture, randomness, augmentation, loops, training."""

from unlearnable_bench.harness.batches import ShuffledBatches, sweep
from unlearnable_bench.harness.core import Harness, refuse_divergence
from unlearnable_bench.harness.gradient import frozen, input_gradient, pgd
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.optimizer import scheduled_lr, set_lr, sgd
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.training import Training, accuracy, train
from unlearnable_bench.harness.transform import central_view, crop_flip, random_transform

__all__ = [
    "Harness",
    "Network",
    "Random",
    "ShuffledBatches",
    "Training",
    "accuracy",
    "central_view",
    "crop_flip",
    "frozen",
    "input_gradient",
    "pgd",
    "random_transform",
    "refuse_divergence",
    "scheduled_lr",
    "set_lr",
    "sgd",
    "sweep",
    "train",
]
