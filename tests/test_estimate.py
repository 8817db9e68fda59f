"""What `ubench run` says beforehand about its time."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import random_images
from torch import Tensor, nn

from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.screen import estimate

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "tiny.npz"
    images = random_images(60, 16, 4)
    arrays = {
        "x_train": images.images,
        "y_train": images.labels,
        "class_names": np.array([*"abcd"]),
    }
    np.savez(path, x_test=images.images, y_test=images.labels, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


def plan(data: str, epochs: int, precision: str = "fp32") -> Plan:
    settings = {"training.epochs": str(epochs)}
    return make_plan(methods=["clean"], dataset=data, settings=settings, precision=precision)


@pytest.mark.parametrize(
    ("epochs", "precision", "told"), [(1000, "fp32", "20 s"), (15_000, "fp64", "5 min")]
)
def test_passes_are_multiplied_by_the_fastest_of_a_few_batches(
    data: str, monkeypatch: pytest.MonkeyPatch, epochs: int, precision: str, told: str
) -> None:
    # 60 images are one batch of 32 an epoch: half of the 64 that are timed.
    stamps = iter([0, 0.3, 1, 1.05, 2, 2.04, 3, 3.06])
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(stamps)))
    seen = []

    def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert not torch.backends.cudnn.allow_tf32
        seen.append((model(x), x, y))
        return x

    monkeypatch.setattr(estimate, "input_gradient", gradient)
    text = estimate.estimate(plan(data, epochs, precision), CPU, dry_run=False)
    assert text.startswith(f"about {told} (")
    dtype = {"fp32": torch.float32, "fp64": torch.float64}[precision]
    for logits, x, y in seen:
        assert (x.dtype, x.shape, len(y)) == (dtype, (64, 3, 16, 16), 64)
        assert (logits.dtype, logits.shape) == (dtype, (64, 4))


def test_bf16_is_estimated_in_bf16(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        convolution = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        convolution.register_forward_hook(lambda _m, _x, found: seen.append(found.dtype))
        model.train()(x[: len(y)])
        return x

    monkeypatch.setattr(estimate, "input_gradient", gradient)
    estimate.estimate(plan(data, 1, "bf16"), CPU, dry_run=False)
    assert set(seen) == {torch.bfloat16}


def test_on_a_gpu_only_a_dry_run_takes_the_time_to_estimate(data: str) -> None:
    text = estimate.estimate(plan(data, 1), torch.device("cuda:0"), dry_run=False)
    assert text.startswith("32 image passes; ")
    assert "--dry-run" in text
