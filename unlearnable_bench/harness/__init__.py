"""The toolbox of attacks and defenses: plain PyTorch, seeded and resumable."""

from unlearnable_bench.harness.batches import ShuffledBatches, sweep
from unlearnable_bench.harness.core import Harness, refuse_divergence
from unlearnable_bench.harness.gradient import frozen, input_gradient, pgd
from unlearnable_bench.harness.memory import zero_noise
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.optimizer import set_lr, sgd
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.transform import central_view, crop_flip, random_transform

__all__ = [
    "Harness",
    "Network",
    "Random",
    "ShuffledBatches",
    "central_view",
    "crop_flip",
    "frozen",
    "input_gradient",
    "pgd",
    "random_transform",
    "refuse_divergence",
    "set_lr",
    "sgd",
    "sweep",
    "zero_noise",
]
