"""What only a CUDA device can show; run with `pytest -m gpu`."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from unlearnable_bench import ImageSet, Radius, ResizedCrop, Transform, UserError, api
from unlearnable_bench.attacks.aap import AAP
from unlearnable_bench.attacks.asr import ASR
from unlearnable_bench.attacks.aue import AUE
from unlearnable_bench.attacks.dune import DUNE
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.entf import EntF
from unlearnable_bench.attacks.gue import GUE
from unlearnable_bench.attacks.hypo import HYPO
from unlearnable_bench.attacks.mi_ue import MIUE
from unlearnable_bench.attacks.ntga import NTGA
from unlearnable_bench.attacks.ntk import Kernel, cnn_ntk, fnn_ntk, part_gradients
from unlearnable_bench.attacks.rem import REM
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.attacks.sep import SEP
from unlearnable_bench.attacks.tap import TAP
from unlearnable_bench.attacks.tue import TUE
from unlearnable_bench.cli import app
from unlearnable_bench.contract import Attack
from unlearnable_bench.defenses.coin import COIN
from unlearnable_bench.defenses.d_vae import DVAE
from unlearnable_bench.defenses.none import NoDefense
from unlearnable_bench.fast import TECHNIQUES, accelerate, graphs
from unlearnable_bench.fast.convolutions import convolve_relu
from unlearnable_bench.harness import Harness, Random, gradient, input_gradient, random_transform
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.learners.resnet18 import ResNet18
from unlearnable_bench.learners.small_cnn import SmallCNN
from unlearnable_bench.learners.vgg16_bn import VGG16BN
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.running.environment import use_algorithms
from unlearnable_bench.running.training import train
from unlearnable_bench.schedule import Training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
    pytest.mark.filterwarnings("default"),  # compilers warn about what is not ours
]
CUDA, TRANSFORM = "cuda", Transform(2, flip=True)
SHORT = {"steps": 6, "batch_size": 32, "noise_steps": 2, "attack_steps": 2, "samples": 2}
ATTACKS = [
    EM(rounds=2, batch_size=40, noise_steps=3, stop_error=0.0),
    EM(variant="misaligned", steps=6, batch_size=32, noise_steps=3),
    REM(**SHORT),
    SEM(**SHORT),
    ASR(**SHORT),
    AUE(epochs=2, batch_size=40, noise_steps=3),
    AAP(epochs=2, batch_size=40, steps=4),
    HYPO(epochs=2, batch_size=40, steps=4, attack_steps=2),
    GUE(epochs=2, batch_size=20, inner_steps=2, inner_lr=0.01, width=4),
    TUE(variant="moco", epochs=2, batch_size=20, steps=2, queue=40, splits=2),
    MIUE(epochs=2, batch_size=20, sweep_size=40, noise_steps=3),
    MIUE(epochs=2, batch_size=20, sweep_size=40, noise_steps=3, rho_a=Radius("8/255")),
    TAP(steps=4, batch_size=40),
    SEP(checkpoints=2, steps=3, draws=3, batch_size=40),
    EntF(steps=4, batch_size=40),
    DUNE(checkpoints=2, batch_size=40),
    NTGA(block=30, validation=35),
    NTGA(block=30, validation=35, kernel="fnn"),
]


@pytest.fixture(autouse=True)
def _as_in_a_run() -> None:
    use_algorithms(torch.device(CUDA))


def image_set(count: int = 100, size: int = 16) -> ImageSet:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ImageSet(pixels, random.integers(0, 4, count), 4)


def harness(precision: str = "bf16", device: str = CUDA, path: Path | None = None) -> Harness:
    checkpoint = Checkpoint(path, interval=0)
    learner, on = SmallCNN(width=8), torch.device(device)
    made = Harness(on, 0, precision, TRANSFORM, learner, checkpoint=checkpoint)  # type: ignore[arg-type]
    made.training = Training(steps=10, batch_size=20, pgd_steps=2)  # of clean surrogates
    return made


def test_random_numbers_are_those_of_the_cpu() -> None:
    here, there = Random(3, "a", CUDA), Random(3, "a")
    for _ in range(3):
        drawn = here.uniform(5, 3, low=-0.1, high=0.1).cpu()
        assert torch.allclose(drawn, there.uniform(5, 3, low=-0.1, high=0.1), atol=1e-8, rtol=0)
        assert torch.equal(here.integers(9, 1000).cpu(), there.integers(9, 1000))
        assert torch.equal(here.permutation(500).cpu(), there.permutation(500))
    far = 2**31 // 3 + 5  # rows after more values than 32 bits count
    parts = [slice(0, 4), slice(4, 6), slice(far, far + 3)]
    blocks = [r.integer_blocks(17, far + 3, 3, parts=parts) for r in (here, there)]
    for one, other in zip(*blocks, strict=True):
        assert torch.equal(one.cpu(), other)


def test_crop_and_flip_and_their_adjoint_are_those_of_the_cpu() -> None:
    x = torch.rand(64, 3, 32, 32)
    weights = torch.rand(64, 3, 32, 32)
    results = []
    for device in ("cpu", CUDA):
        at = x.to(device, copy=True).requires_grad_()
        view = random_transform(at, Transform(4, flip=True), Random(1, "t", device))
        (view * weights.to(device)).sum().backward()
        assert at.grad is not None
        results.append((view.detach().cpu(), at.grad.cpu()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_scaled_boxes_and_their_adjoint_are_those_of_the_cpu() -> None:
    x = torch.rand(64, 3, 40, 40)
    weights = torch.rand(64, 3, 32, 32)
    results = []
    for device in ("cpu", CUDA):
        at = x.to(device, copy=True).requires_grad_()
        view = random_transform(at, ResizedCrop(32, flip=True), Random(1, "t", device))
        (view * weights.to(device)).sum().backward()
        assert at.grad is not None
        results.append((view.detach().cpu(), at.grad.cpu()))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-4)


def test_scaled_boxes_are_captured() -> None:
    """Replays draw anew, as plain calls do."""
    x, transform = torch.rand(8, 3, 40, 40, device=CUDA), ResizedCrop(32, flip=True)
    drawn, expected = Random(1, "t", CUDA), Random(1, "t", CUDA)
    captured = harness().capture(lambda x: random_transform(x, transform, drawn))
    for _ in range(6):
        view = random_transform(x, transform, expected)
        torch.testing.assert_close(captured(x), view, rtol=0, atol=1e-5)


def test_displacements_are_captured_and_those_of_the_cpu() -> None:
    """Replays draw anew, and from the same stream as the CPU."""
    x, y = torch.rand(8, 3, 32, 32), torch.eye(8)
    here, there = Random(1, "training", CUDA), Random(1, "training")
    captured = harness().capture(lambda x, y: COIN().augment(torch.nn.Identity(), x, y, here)[0])
    for _ in range(6):
        expected = COIN().augment(torch.nn.Identity(), x, y, there)[0]
        moved = captured(x.to(CUDA), y.to(CUDA)).cpu()
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_a_purification_is_captured_and_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeatable in float32; in float64 that of the CPU, up to the last bits of sums."""
    images, purifier = image_set(size=16), DVAE(epochs=2, batch_size=16, width=8, latent=8)
    twice = [purifier.prepare(images, harness("fp32")).images for _ in range(2)]
    np.testing.assert_array_equal(*twice)

    drawn = [Random(3, "a", device).normal(1000).cpu() for device in ("cpu", CUDA)]
    torch.testing.assert_close(*drawn, rtol=0, atol=1e-5)

    def normal(stream: Random, *shape: int) -> torch.Tensor:
        first, second = (stream.uniform(*shape).double() for _ in range(2))
        return (-2 * (1 - first).log()).sqrt() * (2 * torch.pi * second).cos()

    # Float32 draws differ in their last bits between devices. That suffices for the first network
    # to round a pixel to another level, from which the second drifts apart as its ReLUs flip.
    monkeypatch.setattr(Random, "normal", normal)
    here, there = (purifier.prepare(images, harness("fp64", d)).images for d in (CUDA, "cpu"))
    assert (here == there).mean() > 0.99


def test_the_compiled_input_gradient_is_the_eager_one_of_the_cpu() -> None:
    # In float64: an input of ReLU that fp32 rounds across 0 would change much.
    x, y = torch.rand(16, 3, 32, 32, dtype=torch.float64), torch.arange(16) % 4
    images = image_set(size=32)
    gradients = []
    for device in ("cpu", CUDA):
        maker = harness("fp64", device)
        maker.learner = ResNet18()
        model = maker.network(images)
        gradients.append(input_gradient(model, x.to(device), y.to(device)).cpu())
    relative = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert relative < 1e-9


def test_cudnn_does_the_relus_behind_folded_convolutions() -> None:
    images, maker = image_set(size=32), harness("bf16")
    maker.learner = ResNet18()
    model, (pixels, labels) = maker.network(images), maker.tensors(images)
    x = maker.unit(pixels)
    input_gradient(model, x, labels)  # compiles
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        input_gradient(model, x, labels)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["unlearnable_bench::convolve_relu"] == 17


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("summed", [False, True])
def test_the_convolution_with_relu_is_that_of_the_cpu(stride: int, summed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 16, 12, 12), (32, 16, 3, 3), (32,), (4, 32, 12 // stride, 12 // stride))
    x, w, b, z = (torch.randn(shape, generator=generator) for shape in shapes)
    tensors = [t.contiguous(memory_format=torch.channels_last) for t in (x, w, z)]
    results = []
    for device in ("cpu", CUDA):
        x, w, z, b = (t.to(device, torch.bfloat16) for t in (*tensors, b))
        found = convolve_relu(x, w, b, z if summed else None, [stride] * 2, [1, 1])
        assert found.is_contiguous(memory_format=torch.channels_last)
        results.append(found.float().cpu())
    torch.testing.assert_close(*results, rtol=2e-2, atol=6e-2)  # the CPU rounds the sum's terms


@pytest.mark.parametrize("max_batch", [100, 12])
def test_halves_side_by_side_have_the_gradient_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, max_batch: int
) -> None:
    images, made = image_set(), harness("fp64")
    made.split_batches = True
    pixels, labels = made.tensors(images)
    model, x = made.network(images), made.unit(pixels)
    model.max_batch = max_batch
    whole = input_gradient(model, x, labels)
    monkeypatch.setattr(gradient, "_SPLIT_FROM", 2)
    captured = made.capture(lambda at: input_gradient(model, at, labels))
    for _ in range(20):
        torch.testing.assert_close(input_gradient(model, x, labels), whole, rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(captured(x), whole, rtol=1e-9, atol=1e-15)


def test_training_does_not_split_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it pays depends on what else runs, which must not change a result."""
    images, made = image_set(), harness()
    pixels, labels = made.tensors(images)
    model, x = made.network(images), made.unit(pixels)
    monkeypatch.setattr(gradient, "_SPLIT_FROM", 2)
    monkeypatch.setattr(graphs, "side_by_side", None)
    assert input_gradient(model, x, labels).shape == x.shape


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_every_technique_can_be_left_out(technique: str) -> None:
    images = image_set(size=32)
    gradients = []
    for without in ((), (technique,)):
        accelerate(torch.device(CUDA), without)
        maker = harness("fp64")
        pixels, labels = maker.tensors(images)
        model = maker.network(images)
        step = maker.capture(partial(input_gradient, model))
        x = maker.unit(pixels)
        gradients.append([step(x, labels).clone() for _ in range(5)])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kernel", [cnn_ntk, fnn_ntk])
def test_the_gradients_of_a_tangent_kernel_are_those_of_the_cpu(kernel: Kernel) -> None:
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    block, images, labels = images[:4], images[4:], torch.tensor([1, 0])
    coefficients = torch.tensor([[0.1, -0.2], [0.3, 0.0], [-0.1, 0.2], [0.0, 0.1]]).double()
    found = [
        part_gradients(kernel, *(t.to(device) for t in (block, coefficients, images, labels)))
        for device in (CUDA, "cpu")
    ]
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here.cpu(), there, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_same_seed_gives_the_same_poison_twice(attack: Attack) -> None:
    images = image_set()
    first, second = (attack.generate(images, harness()).images for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_exact_reference_agrees_with_the_cpu(attack: Attack) -> None:
    """Captured and compiled float64 follows the CPU's, up to the last bits of sums."""
    images = image_set()
    here, there = (attack.generate(images, harness("fp64", d)).images for d in (CUDA, "cpu"))
    assert (here == there).mean() > 0.99


class _StopError(Exception):
    pass


def test_a_resumed_generation_gives_the_same_poison(tmp_path: Path) -> None:
    images, attack, path = image_set(), SEM(**SHORT), tmp_path / "state.safetensors"
    whole = attack.generate(images, harness()).images

    class StopsEarly:
        def track(self, label: str, total: int, steps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            for step in steps:
                if step == 5:
                    raise _StopError
                yield step

    interrupted = harness(path=path)
    interrupted.progress = StopsEarly()
    with pytest.raises(_StopError):
        attack.generate(images, interrupted)
    assert path.exists()
    assert np.array_equal(attack.generate(images, harness(path=path)).images, whole)


@pytest.mark.parametrize("rho_a", ["0", "4/255"])
def test_training_is_repeatable_and_reports_its_warm_up(rho_a: str) -> None:
    images = image_set(200)
    schedule = Training(steps=12, batch_size=32, lr=0.05, pgd_steps=2)
    makers = [harness(), harness()]
    outcomes = [
        train(images, images, NoDefense(), Radius(rho_a), schedule, maker) for maker in makers
    ]
    assert outcomes[0].accuracy == outcomes[1].accuracy
    assert makers[0].times["warmup"] > 0


def test_a_step_that_waits_for_the_device_is_refused_with_its_line() -> None:
    total = torch.zeros(4, device=CUDA)

    def step(x: torch.Tensor) -> float:
        total.add_(x)
        return total.sum().item()

    captured = harness().capture(step)
    for _ in range(captured.warm_calls - 1):
        captured(torch.ones(1, device=CUDA))
    with pytest.raises(UserError, match=r"test_cuda.py:\d+: `return total.sum\(\).item\(\)`"):
        captured(torch.ones(1, device=CUDA))
    torch.rand(1, device=CUDA)  # which a recording that has not ended would refuse
    total.new_empty(1 << 28)
    torch.cuda.empty_cache()  # which would leave everything with whoever records
    assert torch.cuda.memory_reserved() < 1 << 30


def test_a_captured_step_refuses_another_shape() -> None:
    captured = harness().capture(lambda x: x + 1)
    captured(torch.ones(3, device=CUDA))
    line = r"test_cuda.py:\d+: `captured\(torch.ones\(4, device=CUDA\)\)`"
    with pytest.raises(
        UserError, match=line + r": captured with float32 \[3\], called with float32 \[4\]"
    ):
        captured(torch.ones(4, device=CUDA))


def test_a_captured_step_does_the_same_work_as_a_plain_one() -> None:
    """Warm-up calls and replays each run the step exactly once."""
    total = torch.zeros((), device=CUDA)

    def step(x: torch.Tensor) -> torch.Tensor:
        total.add_(x.sum())
        return total + 0

    captured = harness().capture(step)
    seen = [float(captured(torch.full((2,), float(k), device=CUDA))) for k in range(8)]
    assert seen == [float(sum(2 * j for j in range(k + 1))) for k in range(8)]


def test_the_whole_command_runs_on_the_first_device(tmp_path: Path) -> None:
    """From the name `cuda` to the table: every cell is computed."""
    short = ["--set", "training.steps=4", "--set", "sem.steps=2", "--set", "sem.noise_steps=1"]
    run = ["run", "--preset", "smoke", "--methods", "sem", "--rho-a", "0,4/255", *short]
    result = CliRunner().invoke(app, [*run, "--device", "cuda", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "4 cells computed" in result.output


def test_growth_is_measured_on_a_device_that_nobody_used_before() -> None:
    program = """
from dataclasses import replace
from unlearnable_bench.timing.scales import CPU_SCALE
from unlearnable_bench.running.environment import pick_device
from unlearnable_bench.timing.growth import grow
print(*grow(pick_device("cuda"), replace(CPU_SCALE, growth={"image size": (16,)})))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Growth(parameter='image size', value=16")


def test_packed_cells_have_the_results_of_cells_alone(tmp_path: Path) -> None:
    """Long enough for their graphs to be replayed at once."""
    settings = {
        "training.steps": "200",
        "training.batch_size": "128",
        "em.rounds": "2",
        "sem.steps": "20",
    }
    asked = make_plan(
        methods=["em", "sem"], rho_a=[Radius("0"), Radius("4/255")], settings=settings
    )
    for pack in (1, 4, 6):
        assert not api.run(asked, tmp_path / str(pack), device=CUDA, pack=pack).failures
    alone, *packed = (_accuracies(tmp_path / str(pack)) for pack in (1, 4, 6))
    for accuracies in packed:
        assert accuracies == alone


def test_a_compiled_network_with_dropout_has_the_gradient_of_the_cpu() -> None:
    x, images = torch.rand(16, 3, 32, 32, dtype=torch.float64), image_set(size=32)
    found = []
    for device in ("cpu", CUDA):
        maker = harness("fp64", device)
        maker.learner = VGG16BN()
        model = maker.network(images).train()
        at = x.to(device)
        (model(at).square().sum() + model(1 - at).square().sum()).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append(torch.cat([gradient.flatten().cpu() for gradient in gradients]))
    assert (found[0] - found[1]).norm() < 1e-7 * found[0].norm()


def test_dropout_is_compiled_and_drawn_alike_beside_others(tmp_path: Path) -> None:
    settings = {"training.steps": "60"}
    seeds: list[int] = [0, 1]
    asked = make_plan(methods=["clean"], learners=["vgg16-bn"], seeds=seeds, settings=settings)
    for pack in (1, 2):
        assert not api.run(asked, tmp_path / str(pack), device=CUDA, pack=pack).failures
    assert _accuracies(tmp_path / "1") == _accuracies(tmp_path / "2")


def _accuracies(folder: Path) -> dict[str, dict[str, float]]:
    frame = api.load_records(folder).set_index("key")
    return {name: frame[name].to_dict() for name in ("test_accuracy", "train_accuracy")}
