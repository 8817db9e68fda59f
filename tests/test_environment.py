"""Devices, and the settings of torch in which results are made."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from unlearnable_bench import UserError, api, make_plan
from unlearnable_bench.harness.device import one_run_on
from unlearnable_bench.running.environment import pick_device, use_reproducible_algorithms


@pytest.mark.parametrize(
    ("name", "expected"),
    [(None, "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_a_cuda_device_always_has_its_index(
    name: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(pick_device(name)) == expected


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="there are 2 CUDA devices"):
        pick_device("cuda:2")


@pytest.fixture
def _settings_kept() -> Iterator[None]:
    yield
    torch.backends.fp32_precision = "none"
    use_reproducible_algorithms()


@pytest.mark.usefixtures("_settings_kept")
@pytest.mark.parametrize("way", ["all backends", "products", "switches"])
def test_fp32_is_computed_in_fp32_whatever_a_program_chose(way: str) -> None:
    if way == "all backends":
        torch.backends.fp32_precision = "tf32"
    elif way == "products":
        torch.set_float32_matmul_precision("medium")
    else:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    use_reproducible_algorithms()
    backends = torch.backends
    for part in (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    ):
        assert part.fp32_precision == "ieee"
    assert not backends.cudnn.allow_tf32
    assert not backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


def test_results_do_not_depend_on_the_callers_autocast_and_modes(tmp_path: Path) -> None:
    settings = {"training.epochs": "1", "em.rounds": "1", "em.noise_steps": "1"}
    plan = make_plan(methods=["em"], settings=settings | {"shapes.train": "64"})
    poisons = []
    for k, around in enumerate(
        (torch.enable_grad(), torch.autocast("cpu", torch.bfloat16), torch.inference_mode())
    ):
        with around:
            api.run(plan, tmp_path / str(k), device="cpu", pack=1)
        records = api.load_records(tmp_path / str(k)).set_index("key").sort_index()
        poisons.append((list(records["poison_sha256"]), list(records["train_accuracy"])))
    assert poisons[0] == poisons[1] == poisons[2]


def test_another_default_type_is_refused(tmp_path: Path) -> None:
    plan = make_plan(methods=["random"], settings={"training.epochs": "1"})
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(UserError, match=r"default type is torch\.float64"):
            api.run(plan, tmp_path / "out", device="cpu")
    finally:
        torch.set_default_dtype(torch.float32)


def test_runs_of_one_process_use_a_gpu_one_after_another() -> None:
    gpu, order = torch.device("cuda:0"), []

    def second() -> None:
        with one_run_on(torch.device("cpu")), one_run_on(torch.device("cuda:1")):
            order.append("beside")
        with one_run_on(gpu):
            order.append("after")

    thread = threading.Thread(target=second)
    with one_run_on(gpu), one_run_on(torch.device("cpu")):
        thread.start()
        thread.join(0.5)
        order.append("first")
    thread.join()
    assert order == ["beside", "first", "after"]
