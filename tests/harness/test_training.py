"""Training equals its literal transcription; schedules and batches keep their promises."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import oracle_parts
import oracles
import pytest
import torch
from helpers import Interrupting, Interruption, Tiny, make_harness, random_images
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from unlearnable_bench import Defense, Harness, ImageSet, Radius, Random, UserError
from unlearnable_bench.harness import ShuffledBatches, sgd, sweep
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.running import training
from unlearnable_bench.running.training import accuracy, train
from unlearnable_bench.schedule import Training, scheduled_lr

CPU = torch.device("cpu")
IMAGES = random_images(count=25, seed=1)
TEST = random_images(count=37, seed=2)
BASE: dict[str, Any] = {"batch_size": 10, "steps": 7, "pgd_steps": 3}


def assert_equal_weights(got: torch.nn.Module, expected: torch.nn.Module) -> None:
    ours, theirs = got.state_dict(), expected.state_dict()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[f"network.{name}"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rho_a", ["0", "4/255"])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"nesterov": True},
        {"momentum": 0.0},
        {"weight_decay": 0.1},
        {"label_smoothing": 0.2},
        {"schedule": "triangle", "steps": 10},
        {"schedule": "late-steps", "steps": 10},
        {"steps": None, "epochs": 3},
        {"batch_size": 128, "steps": 2},
        {"lr": 0.5},
        {"pgd_steps": 1},
        {"nesterov": True, "label_smoothing": 0.1, "schedule": "triangle", "steps": 5},
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], rho_a: str) -> None:
    training = Training(**BASE | changed)
    learner = Tiny()
    harness = make_harness(learner=learner)
    network = copy.deepcopy(harness.network(IMAGES, "learner"))
    outcome = train(IMAGES, TEST, Defense(), Radius(rho_a), training, harness)
    accuracies = oracles.train(
        network, IMAGES, TEST, harness.transform, harness.seed, float(Radius(rho_a)), training
    )
    assert_equal_weights(learner.built[-1], network)
    assert outcome.accuracy == pytest.approx(accuracies, rel=1e-6)
    assert outcome.train_accuracy == oracles.accuracy(network, IMAGES)


def test_boxes_are_trained_on_and_centres_tested() -> None:
    """Of training images of 8 px networks see 6 px; the test images have 6 px already."""
    training, learner = Training(**BASE), Tiny()
    harness = make_harness(learner=learner, crop=6)
    network = copy.deepcopy(harness.network(IMAGES, "learner"))
    test = random_images(count=37, seed=2, size=6)
    outcome = train(IMAGES, test, Defense(), Radius("4/255"), training, harness)
    accuracies = oracles.train(
        network, IMAGES, test, harness.transform, harness.seed, 4 / 255, training
    )
    assert_equal_weights(learner.built[-1], network)
    assert outcome.accuracy == pytest.approx(accuracies, rel=1e-6)
    middle = ImageSet(IMAGES.images[:, 1:7, 1:7], IMAGES.labels, IMAGES.classes)
    assert outcome.train_accuracy == oracles.accuracy(network, middle)


def test_training_images_may_be_tested_on() -> None:
    """A surrogate trained on the clean images has no other test images."""
    outcome = train(IMAGES, IMAGES, Defense(), Radius("0"), Training(**BASE), make_harness(crop=6))
    assert outcome.accuracy[-1] == outcome.train_accuracy


def test_each_hook_of_the_defense_is_used() -> None:
    calls = []

    @dataclass(frozen=True, kw_only=True)
    class Noting(Defense):
        def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
            calls.append("prepare")
            return ImageSet(images.images[:20], images.labels[:20], images.classes)

        def augment(
            self, model: nn.Module, x: Tensor, y: Tensor, random: Random
        ) -> tuple[Tensor, Tensor]:
            calls.append("augment")
            return super().augment(model, x, y, random)

        def perturb(
            self, model: nn.Module, x: Tensor, y: Tensor, rho_a: Radius, steps: int, random: Random
        ) -> Tensor:
            calls.append("perturb")
            assert (float(rho_a), steps) == (4 / 255, 3)
            return x

        def loss(self, model: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
            calls.append("loss")
            return super().loss(model, x, perturbed, y)

    training = Training(**BASE | {"steps": 2})
    train(IMAGES, TEST, Noting(), Radius("4/255"), training, make_harness())
    assert calls == ["prepare", *["augment", "perturb", "loss"] * 2]


def test_the_work_of_a_defense_on_the_images_is_timed_apart() -> None:
    class Slow(Defense):
        def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
            time.sleep(0.3)
            return images

    started = time.perf_counter()
    harness = make_harness()
    train(IMAGES, TEST, Slow(), Radius("0"), Training(**BASE), harness)
    spent, took = harness.times.read(), time.perf_counter() - started
    assert spent.keys() == {"preparation", "work", "evaluation"}
    assert 0.3 <= spent["preparation"] < sum(spent.values()) <= took


class Dropping(Tiny):
    """Has dropout, which draws in each step."""

    def build(self, classes: int, size: int) -> nn.Module:
        network = super().build(classes, size)
        assert isinstance(network, nn.Sequential)
        return network.insert(5, nn.Dropout(0.3))


@pytest.mark.parametrize(
    ("momentum", "learner"), [(0.9, Tiny), (0.0, Tiny), (0.9, Dropping)], ids=str
)
def test_resuming_equals_not_stopping(tmp_path: Path, momentum: float, learner: type[Tiny]) -> None:
    training = Training(**BASE | {"momentum": momentum})

    def run(harness: Harness) -> Any:
        return train(IMAGES, TEST, Defense(), Radius("4/255"), training, harness)

    whole = learner()
    expected = run(make_harness(learner=whole))
    for stop in (1, 4, 6):
        harness = make_harness(learner=learner())
        harness.checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", interval=0)
        harness.progress = Interrupting("training", stop)
        with pytest.raises(Interruption):
            run(harness)
    resumed = learner()
    harness = make_harness(learner=resumed)
    harness.checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", interval=0)
    outcome = run(harness)
    assert outcome.accuracy == expected.accuracy
    assert outcome.train_accuracy == expected.train_accuracy
    for a, b in zip(
        resumed.built[-1].state_dict().values(),
        whole.built[-1].state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_the_seed_decides_the_outcome() -> None:
    def weights(seed: int) -> Tensor:
        learner = Tiny()
        harness = make_harness(learner=learner, seed=seed)
        train(IMAGES, TEST, Defense(), Radius("0"), Training(**BASE), harness)
        return torch.cat([w.flatten() for w in learner.built[-1].state_dict().values()])

    first, again, other = weights(0), weights(0), weights(1)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_accuracy_equals_one_image_at_a_time_for_any_batch() -> None:
    harness = make_harness()
    model = harness.network(TEST)
    pixels, labels = harness.tensors(TEST)
    expected = oracles.accuracy(copy.deepcopy(model), TEST)
    model.train()
    assert [accuracy(model, pixels, labels, batch) for batch in (1, 10, 37, 1000)] == [expected] * 4
    assert model.training
    assert int(model.state_dict()["network.1.num_batches_tracked"]) == 0


@pytest.mark.parametrize(
    ("step", "steps", "expected"),
    [
        (0, 5000, 0.1),
        (1999, 5000, 0.1),
        (2000, 5000, 0.01),
        (3999, 5000, 0.01),
        (4000, 5000, 0.001),
        (4999, 5000, 0.001),
        (15_999, 40_000, 0.1),
        (16_000, 40_000, 0.01),
        (31_999, 40_000, 0.01),
        (32_000, 40_000, 0.001),
    ],
)
def test_the_rate_drops_at_the_documented_steps(step: int, steps: int, expected: float) -> None:
    assert scheduled_lr("steps", 0.1, step, steps) == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 100_000), st.data())
def test_the_rate_drops_at_two_and_four_fifths(steps: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, steps - 1))
    expected = oracle_parts.stepped_lr(0.1, step, steps)
    assert scheduled_lr("steps", 0.1, step, steps) == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 2000), st.data())
def test_the_triangle_peaks_at_a_fifth(fifth: int, data: st.DataObject) -> None:
    steps = 5 * fifth
    step = data.draw(st.integers(0, steps - 1))
    expected = oracle_parts.triangular_lr(0.1, step, steps)
    assert scheduled_lr("triangle", 0.1, step, steps) == pytest.approx(expected, rel=1e-9)


def test_the_triangle_never_exceeds_its_peak() -> None:
    rates = [scheduled_lr("triangle", 1.0, k, n) for n in range(1, 40) for k in range(n)]
    assert max(rates) <= 1 + 1e-12


@pytest.mark.parametrize(("images", "expected"), [(25, 6), (29, 6), (30, 9), (4, 3)])
def test_epochs_count_whole_batches(images: int, expected: int) -> None:
    assert Training(batch_size=10, steps=None, epochs=3).total(images) == expected


def test_image_passes_count_the_adversary() -> None:
    training = Training(batch_size=10, steps=7, pgd_steps=4)
    assert training.image_passes(25, Radius("0")) == 70
    assert training.image_passes(25, Radius("1/255")) == 350


def test_momentum_buffers_are_there_from_the_start() -> None:
    optimizer = sgd(torch.nn.Linear(2, 2), lr=0.1)
    buffers = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert len(buffers) == 2
    assert all((buffer == 0).all() for buffer in buffers)


sizes = st.tuples(st.integers(1, 60), st.integers(1, 70))


@given(sizes, st.integers(0, 100))
def test_an_epoch_shows_no_image_twice(count_size: tuple[int, int], seed: int) -> None:
    count, size = count_size
    batches = ShuffledBatches(count, size, seed, "order", CPU)
    assert batches.size == min(count, size)
    assert batches.per_epoch == count // batches.size
    for epoch in range(2):
        steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        seen = torch.cat([batches[k] for k in steps]).tolist()
        assert len(seen) == batches.per_epoch * batches.size == count - count % batches.size
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(count))


def test_epochs_differ_and_leave_out_other_images() -> None:
    batches = ShuffledBatches(25, 10, 0, "order", CPU)
    epochs = [torch.cat([batches[2 * e], batches[2 * e + 1]]).tolist() for e in range(8)]
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert set().union(*map(set, epochs)) == set(range(25))
    assert len({frozenset(epoch) for epoch in epochs}) > 1


def test_a_batch_depends_on_its_step_alone() -> None:
    forward, backward = (ShuffledBatches(25, 10, 0, "order", CPU) for _ in range(2))
    in_order = [forward[k].tolist() for k in range(9)]
    assert [backward[k].tolist() for k in reversed(range(9))] == in_order[::-1]


def test_seeds_and_streams_shuffle_differently() -> None:
    orders = [
        ShuffledBatches(25, 25, s, t, CPU)[0].tolist() for s, t in [(0, "a"), (1, "a"), (0, "b")]
    ]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


@given(sizes)
def test_a_sweep_writes_every_image_once(count_size: tuple[int, int]) -> None:
    count, size = count_size
    visits = list(sweep(count, size, CPU))
    written = torch.cat([index[fresh] for index, fresh in visits]).tolist()
    assert sorted(written) == list(range(count))
    for index, fresh in visits:
        assert len(index) == len(fresh) == min(size, count)
        assert len(set(index.tolist())) == len(index)
        assert 0 <= int(index.min()) <= int(index.max()) < count


def test_a_diverged_learner_is_refused() -> None:
    """A network of NaN is right by chance, which would pass for a perfect poison."""
    with pytest.raises(UserError, match="diverged"):
        train(IMAGES, TEST, Defense(), Radius(), Training(**BASE | {"lr": 1e30}), make_harness())


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(UserError, match="momentum"):
        Training(nesterov=True, momentum=0)


@dataclass(frozen=True, kw_only=True)
class _Forgetting(Defense):
    """Ordinary training whose labels turn false after some steps: the last epoch is the worst."""

    seen: list[int]

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        self.seen.append(1)
        return x, y if len(self.seen) <= 12 else y.roll(1, dims=1)


def separable(count: int, seed: int) -> ImageSet:
    """Return images whose brightness is their class."""
    images = random_images(count, classes=3, seed=seed)
    return images.replaced(
        np.full_like(images.images, 1)
        * (80 * images.labels[:, None, None, None] + 20).astype(np.uint8)
    )


def test_early_stopping_keeps_the_first_best_epoch() -> None:
    images, test, validation = separable(25, 0), separable(37, 1), separable(20, 2)
    schedule = Training(batch_size=10, steps=20, lr=0.05)

    def run(held_out: ImageSet | None) -> Any:
        harness = make_harness(pad=0)
        return train(images, test, _Forgetting(seen=[]), Radius(), schedule, harness, held_out)

    plain, early = run(None), run(validation)
    assert plain.accuracy == early.accuracy
    assert plain.chosen == len(plain.accuracy) - 1
    assert early.accuracy[early.chosen] > plain.accuracy[-1]
    tensors = make_harness().tensors(test)
    assert accuracy(early.model, *tensors) == early.accuracy[early.chosen]
    best = max(range(10), key=lambda k: validations(validation, schedule, images, k))
    assert early.chosen == best


def test_of_equal_epochs_the_first_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    harness, images = make_harness(), random_images(5)
    early = training._EarlyStopping(harness.network(images), harness, images)
    found = iter([50.0, 70.0, 70.0, 60.0])
    monkeypatch.setattr(training, "accuracy", lambda *_: next(found))
    for epoch in range(4):
        early.see(epoch)
    assert early.restore() == 1


def validations(held_out: ImageSet, schedule: Training, images: ImageSet, epoch: int) -> float:
    """Return the accuracy on the held-out images after an epoch, from a run that tests on them."""
    outcome = train(images, held_out, _Forgetting(seen=[]), Radius(), schedule, make_harness(pad=0))
    return outcome.accuracy[epoch]


def test_early_stopping_resumes(tmp_path: Path) -> None:
    images, validation = separable(25, 0), separable(20, 2)
    schedule = Training(batch_size=10, steps=9, lr=0.05)

    def run(path: Path | None, before: int | None = None) -> Any:
        harness = make_harness()
        harness.checkpoint = Checkpoint(path, interval=0)
        if before is not None:
            harness.progress = Interrupting("training", before)
        return train(images, TEST, Defense(), Radius(), schedule, harness, validation)

    whole, path = run(None), tmp_path / "state.safetensors"
    with pytest.raises(Interruption):
        run(path, 7)
    resumed = run(path)
    assert (resumed.accuracy, resumed.chosen) == (whole.accuracy, whole.chosen)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name])
