"""Built-in architectures, one file each."""

from unlearnable_bench.harness.layers import Normalise

__all__ = ["Normalise"]
