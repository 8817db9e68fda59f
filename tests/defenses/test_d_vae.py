"""D-VAE: shapes, one step and the purification equal their transcription; runs resume."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Interrupting, Interruption, make_harness, random_images
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Harness, ImageSet, Random, UserError, make_plan
from unlearnable_bench.defenses import d_vae
from unlearnable_bench.defenses._vae import DVAENetwork, Parts, objective
from unlearnable_bench.defenses.d_vae import DVAE
from unlearnable_bench.harness import ShuffledBatches
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.planning.cost import work_of

SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 6, "width": 4, "latent": 5}
STAGES = {"first": 1.0, "second": 3.0}


def batch_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]


def instance_norm(x: Tensor) -> Tensor:
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt()


def literal(network: DVAENetwork, x: Tensor, y: Tensor, noise: Tensor) -> Parts:
    """Return the parts of a batch in train mode, layer by layer from the named weights."""
    w = dict(network.named_parameters())

    def normed(x: Tensor, name: str) -> Tensor:
        return batch_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def block(x: Tensor, name: str, stride: int, around: Tensor) -> Tensor:
        inner = functional.conv2d(x, w[f"{name}.conv1.weight"], None, stride, 1)
        inner = normed(inner, f"{name}.bn1").relu()
        inner = functional.conv2d(inner, w[f"{name}.conv2.weight"], None, 1, 1)
        return (normed(inner, f"{name}.bn2") + around).relu()

    def decoded(z: Tensor, name: str) -> Tensor:
        def up(z: Tensor, at: int, stride: int) -> Tensor:
            weight, bias = w[f"{name}.{at}.weight"], w[f"{name}.{at}.bias"]
            return functional.conv_transpose2d(z, weight, bias, stride, 1)

        z = instance_norm(up(up(z, 0, 2), 1, 1)).relu()
        return up(instance_norm(up(z, 4, 1)).relu(), 7, 1)

    stem = functional.conv2d(x, w["encoder.0.weight"], None, 1, 1)
    stem = normed(stem, "encoder.1").relu()
    stem = block(stem, "encoder.3", 1, stem)
    stem = block(stem, "encoder.4", 1, stem)
    around = functional.conv2d(stem, w["encoder.5.downsample.0.weight"], None, 2)
    stem = block(stem, "encoder.5", 2, normed(around, "encoder.5.downsample.1"))

    def pixelwise(x: Tensor, name: str) -> Tensor:
        mixed = torch.einsum("oi,bihw->bohw", w[f"{name}.weight"][:, :, 0, 0], x)
        return mixed + w[f"{name}.bias"][:, None, None]

    mean, log_variance = pixelwise(stem, "mean"), pixelwise(stem, "log_variance")
    z = pixelwise(mean + torch.exp(log_variance / 2) * noise, "expand")
    classes = torch.stack([w["embedding.weight"][int(k)].reshape(z.shape[1:]) for k in y])
    image = 1 / (1 + torch.exp(-decoded(z, "image")))
    return Parts(image, decoded(z + classes, "perturbation"), mean, log_variance)


def literal_loss(parts: Parts, x: Tensor, target: float, *, penalised: bool) -> Tensor:
    count, latent, height, width = parts.mean.shape
    rate = torch.zeros((), dtype=torch.float64)
    for b in range(count):
        for i in range(height):
            for j in range(width):
                for k in range(latent):
                    mean, log = parts.mean[b, k, i, j], parts.log_variance[b, k, i, j]
                    rate = rate - 0.5 * (1 + log - mean**2 - torch.exp(log))
    rate = rate / (count * height * width)
    values = x.numel()
    loss = ((parts.image - x) ** 2).sum() / values
    together = torch.clip(parts.image + parts.perturbation, 0, 1)
    loss = loss + ((together - x) ** 2).sum() / values + 0.01 * max(rate, torch.tensor(target))
    if penalised:
        loss = loss + max((parts.perturbation**2).sum() / values, torch.tensor(0.002))
    return loss


def network(stage: str = "first", **options: Any) -> DVAENetwork:
    images = random_images(count=6, size=8)
    return DVAE(**SMALL | options)._network(images, make_harness(), stage)


def test_the_official_network_has_the_shapes_and_layers_of_the_recipe() -> None:
    with torch.device("meta"):
        found = DVAENetwork(10, 32, DVAE().width, DVAE().latent)
        x, y = torch.empty(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)
        parts = found(x, y, torch.empty(2, 256, 16, 16))
        assert found.encoder(x).shape == (2, 128, 16, 16)
    assert parts.image.shape == parts.perturbation.shape == (2, 3, 32, 32)
    assert parts.mean.shape == parts.log_variance.shape == (2, 256, 16, 16)
    assert found.embedding.weight.shape == (10, 128 * 16 * 16)
    layers = [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for layer in found.perturbation
        if isinstance(layer, nn.ConvTranspose2d)
    ]
    assert layers == [(128, 64, 4, 2), (64, 64, 3, 1), (64, 32, 3, 1), (32, 3, 3, 1)]
    norms = [type(layer).__name__ for layer in found.image]
    assert norms.count("InstanceNorm2d") == norms.count("ReLU") == 2
    first = network("first").state_dict()
    assert not torch.equal(first["mean.weight"], network("second").state_dict()["mean.weight"])


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("target", [0.0, 50.0])
def test_loss_and_gradient_equal_the_transcription(target: float, penalised: bool) -> None:
    found = network().train()
    random = Random(1, "x")
    x, noise = random.uniform(3, 3, 8, 8).double(), random.normal(3, 5, 4, 4).double()
    y = torch.tensor([2, 0, 2])
    flag = torch.tensor(float(penalised), dtype=torch.float64)
    loss = objective(found(x, y, noise), x, target, 0.01, 0.002, flag)
    expected = literal_loss(literal(found, x, y, noise), x, target, penalised=penalised)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    weights = list(found.parameters())
    for one, other in zip(
        torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def with_adam(step: int, weight: Tensor, gradient: Tensor, m: Tensor, v: Tensor, lr: float) -> None:
    m.copy_(0.9 * m + 0.1 * gradient)
    v.copy_(0.999 * v + 0.001 * gradient**2)
    weight -= lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)


def fitted(images: ImageSet, stage: str, random: Random, epochs: int) -> DVAENetwork:
    """Train the network of a stage by the transcription and Adam's formula."""
    defense = DVAE(**SMALL | {"epochs": epochs})
    found = defense._network(images, make_harness(), stage).train()
    pixels, labels = make_harness().tensors(images)
    batches = ShuffledBatches(len(pixels), 6, 0, f"d-vae/{stage}", torch.device("cpu"))
    weights = list(found.parameters())
    moments = [[torch.zeros_like(weight) for weight in weights] for _ in range(2)]
    for k in range(epochs * batches.per_epoch):
        epoch = k // batches.per_epoch
        x, y = pixels[batches[k]].double() / 255, labels[batches[k]]
        noise = random.normal(6, 5, 4, 4).double()
        late = epoch > 10 * epochs / 60
        parts = literal(found, x, y, noise)
        loss = literal_loss(parts, x, STAGES[stage], penalised=late)
        gradients = torch.autograd.grad(loss, weights)
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        found(x, y, noise)  # the running statistics
        lr = 0.005 / 2 * (1 + math.cos(math.pi * epoch / epochs))
        with torch.no_grad():
            for weight, gradient, m, v in zip(weights, gradients, *moments, strict=True):
                with_adam(k + 1, weight, gradient * min(1, 5 / (norm + 1e-6)), m, v, lr)
    return found


def test_the_purified_images_equal_the_transcription() -> None:
    images = random_images(count=14, size=8)
    got = DVAE(**SMALL).prepare(images, make_harness()).images
    random, current = Random(0, "d-vae"), images
    for stage in STAGES:
        found = fitted(current, stage, random, epochs=2).eval().requires_grad_(requires_grad=False)
        draws = Random(0, f"d-vae/{stage} purification")
        pixels, labels = make_harness().tensors(current)
        done = []
        for start in range(0, 14, 6):
            x, y = pixels[start : start + 6].double() / 255, labels[start : start + 6]
            noise = draws.normal(len(x), 5, 4, 4).double()
            x = (x - found(x, y, noise).perturbation).clip(0, 1)
            if stage == "second":
                x = found(x, y, draws.normal(len(x), 5, 4, 4).double()).image
            done.append(np.rint(255 * x.permute(0, 2, 3, 1).numpy()).astype(np.uint8))
        assert not np.array_equal(np.concatenate(done), current.images)
        current = current.replaced(np.concatenate(done))
    np.testing.assert_array_equal(got, current.images)


def test_bf16_rounds_between_the_layers_of_pixels() -> None:
    torch.manual_seed(0)
    exact, rounded = (DVAENetwork(4, 16, 16, 32, bf16=bf16) for bf16 in (False, True))
    rounded.load_state_dict(exact.state_dict())
    x, y = torch.rand(8, 3, 16, 16), torch.arange(8) % 4
    noise = torch.randn(8, 32, 8, 8)
    seen: list[Tensor] = []
    for layer in (rounded.encoder[0], rounded.encoder[3].conv1, rounded.image[-1]):
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    for part, other in zip(exact(x, y, noise), rounded(x, y, noise), strict=True):
        assert part.dtype == other.dtype == torch.float32
        difference = (part - other).detach().abs().max() / part.detach().abs().max()
        assert 0 < difference < 0.03
    assert [one.dtype for one in seen] == [torch.float32, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_networks_have_the_precision_of_the_run(precision: str) -> None:
    images, harness = random_images(count=6, size=8), make_harness("fp32")
    harness.precision = precision  # type: ignore[assignment]
    assert DVAE(**SMALL)._network(images, harness, "first").bf16 == (precision == "bf16")


def test_labels_order_and_kind_are_kept_and_the_seed_decides() -> None:
    images = random_images(count=14, size=8)
    purified = [DVAE(**SMALL).prepare(images, make_harness("fp32", seed=s)) for s in (0, 0, 1)]
    assert purified[0].digest() == purified[1].digest() != purified[2].digest()
    assert np.array_equal(purified[0].labels, images.labels)
    assert purified[0].images.dtype == np.uint8


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_purification_resumes(tmp_path: Path, stage: str) -> None:
    images, path = random_images(count=14, size=8), tmp_path / "key.safetensors"

    def harness(progress: Any = None) -> Harness:
        made = make_harness("fp32")
        made.checkpoint = Checkpoint(path, interval=0)
        made.progress = progress or made.progress
        return made

    whole = DVAE(**SMALL).prepare(images, make_harness("fp32"))
    with pytest.raises(Interruption):
        DVAE(**SMALL).prepare(images, harness(Interrupting(f"d-vae, {stage} network", 3)))
    resumed = harness()
    assert DVAE(**SMALL).prepare(images, resumed).digest() == whole.digest()
    assert resumed.checkpoint.restored_seconds > 0
    # Another time nothing is trained.
    finished = harness(Interrupting("d-vae, first network", 0))
    assert DVAE(**SMALL).prepare(images, finished).digest() == whole.digest()


def test_a_shared_pattern_of_a_class_is_found() -> None:
    """Smooth images with one faint checkerboard per class: the second decoder learns it."""
    random = np.random.default_rng(0)
    labels = np.arange(64) % 2
    smooth = random.uniform(80, 170, (64, 1, 1, 3)) + np.linspace(-30, 30, 8)[:, None, None]
    board = 16 * np.where(np.indices((8, 8)).sum(0) % 2, 1, -1)[..., None]
    signs = np.where(labels, 1, -1)[:, None, None, None]
    clean = np.clip(smooth.repeat(8, 2), 0, 255)
    images = ImageSet(np.rint(clean + signs * board).astype(np.uint8), labels, 2)
    options = {"epochs": 20, "batch_size": 16, "width": 4, "latent": 4}
    purified = DVAE(**options).prepare(images, make_harness("fp32")).images

    def remaining(found: np.ndarray) -> float:
        return float((signs * board * (found - clean)).mean()) / 16**2

    assert remaining(images.images) == pytest.approx(1, abs=0.05)
    assert remaining(purified) < 0.3


def test_odd_sizes_are_refused_in_the_plan_and_the_cost_is_counted() -> None:
    odd = random_images(count=12, size=9)
    with pytest.raises(UserError, match="d-vae halves and doubles images, these have 9 px"):
        DVAE().check(odd)
    usual: dict[str, Any] = {"methods": ["clean"], "preset": "smoke"}
    plans = [
        make_plan(defenses=[name], settings={"shapes.train": 100}, **usual)
        for name in ("none", "d-vae")
    ]
    passes = [sum(work.passes or 0 for work in work_of(plan)) for plan in plans]
    # The preset's 14 epochs of both networks, and three passes without gradients.
    assert passes[1] - passes[0] == 29 * 100


def test_the_official_schedule_is_the_default() -> None:
    defense = DVAE()
    assert (defense.epochs, defense.batch_size, defense.lr) == (60, 128, 0.005)
    assert (defense.first_rate, defense.second_rate, defense.rate_weight) == (1, 3, 0.01)
    assert (d_vae._CLIP, d_vae._FLOOR) == (5, 0.002)
    # From the twelfth epoch.
    assert [epoch >= d_vae._FREE * 60 for epoch in (10, 11)] == [False, True]
