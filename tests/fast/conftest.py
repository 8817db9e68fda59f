"""On a CPU the fast path has those of its techniques that need no GPU."""

from collections.abc import Iterator

import pytest
import torch

from unlearnable_bench.fast import accelerate
from unlearnable_bench.harness.acceleration import install


@pytest.fixture(autouse=True)
def _accelerated() -> Iterator[None]:
    accelerate(torch.device("cpu"))
    yield
    install("cpu", None)
