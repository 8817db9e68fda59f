"""The toolbox of attacks and defenses: plain PyTorch, seeded and resumable."""

from unlearnable_bench.harness.batches import ShuffledBatches, sweep
from unlearnable_bench.harness.core import Harness
from unlearnable_bench.harness.features import refuse_featureless
from unlearnable_bench.harness.gradient import (
    batch_gradient,
    clamp_unit,
    frozen,
    input_gradient,
    pgd,
)
from unlearnable_bench.harness.memory import level_type, zero_noise
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.optimizer import adam, set_lr, sgd
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.stored_noise import StoredNoise
from unlearnable_bench.harness.transform import central_view, crop_flip, random_transform
from unlearnable_bench.harness.watch import refuse_divergence

__all__ = [
    "Harness",
    "Network",
    "Random",
    "ShuffledBatches",
    "StoredNoise",
    "adam",
    "batch_gradient",
    "central_view",
    "clamp_unit",
    "crop_flip",
    "frozen",
    "input_gradient",
    "level_type",
    "pgd",
    "random_transform",
    "refuse_divergence",
    "refuse_featureless",
    "set_lr",
    "sgd",
    "sweep",
    "zero_noise",
]
