"""Poisons that are a function of image and class, and accuracy on test images poisoned by it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from helpers import make_harness, random_images, small_data

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius, api
from unlearnable_bench.attacks.ar import AR
from unlearnable_bench.attacks.class_random import ClassRandom
from unlearnable_bench.attacks.class_tiles import ClassTiles
from unlearnable_bench.attacks.cuda import CUDA
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.ops import OPS
from unlearnable_bench.images import Pixels
from unlearnable_bench.planning import grid, registry
from unlearnable_bench.reports.main import Main
from unlearnable_bench.results.aggregate import aggregate
from unlearnable_bench.results.table import entry_text
from unlearnable_bench.running import poisoned_test

SHORT = {"training.epochs": "1", "training.batch_size": "4", "small-cnn.width": "4"}


def poisoned_by(attack: Attack, images: ImageSet) -> Pixels:
    return attack.generate(images, make_harness("fp32")).images


def function_of(attack: Attack, images: ImageSet) -> Callable[[ImageSet], Pixels]:
    poisoned = poisoned_by(attack, images)
    function = attack.function_of_class(images, poisoned, make_harness("fp32"))
    assert function is not None
    return function


CLASSWISE = EM(variant="classwise", rounds=2, batches=2, batch_size=10)


@pytest.mark.parametrize(
    "attack",
    [OPS(sparsity=3), CUDA(), ClassRandom(), ClassTiles(), CLASSWISE],
    ids=lambda a: type(a).__name__,
)
def test_the_function_gives_the_poison_of_the_training_images(attack: Attack) -> None:
    images = random_images(count=60, size=8)
    expected = poisoned_by(attack, images)
    np.testing.assert_array_equal(function_of(attack, images)(images), expected)
    part = images.subset(np.arange(7, 19))
    np.testing.assert_array_equal(function_of(attack, images)(part), expected[7:19])


def test_other_images_get_the_noise_of_their_class() -> None:
    """Noise 3 for class 0 and -5 for class 1, of which clipping hides a part in each image."""
    pixels = np.full((4, 4, 4, 3), 128, np.uint8)
    pixels[0, 0], pixels[1, 1], pixels[2, 0], pixels[3, 1] = 254, 254, 2, 2
    images = ImageSet(pixels, np.array([0, 0, 1, 1]), 2)
    noise = np.array([3, -5])[images.labels][:, None, None, None]
    poisoned = np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)
    function = CLASSWISE.function_of_class(images, poisoned, make_harness())
    assert function is not None
    others = ImageSet(np.full((2, 4, 4, 3), 100, np.uint8), np.array([1, 0]), 2)
    assert np.unique(function(others)[0]).tolist() == [95]
    assert np.unique(function(others)[1]).tolist() == [103]


def test_ar_adds_other_patterns_of_the_same_processes() -> None:
    images = random_images(count=6, size=8)
    grey = images.replaced(np.full_like(images.images, 128))
    attack = AR(response=0.1)
    first, other = poisoned_by(attack, grey), function_of(attack, grey)(grey)
    assert not np.array_equal(first, other)
    norms = np.sqrt(((other / 255.0 - 128 / 255) ** 2).sum((1, 2, 3)))
    np.testing.assert_allclose(norms, 8 / 32, atol=0.02)


def test_noise_of_each_image_is_no_function() -> None:
    images = random_images(count=6)
    for attack in (EM(), registry.attacks.choose("random").plugin):
        assert attack.function_of_class(images, images.images, make_harness()) is None


@dataclass(frozen=True, kw_only=True)
class Painted(Attack):
    """A plugin that paints the first row in the colour of the class."""

    surrogate: ClassVar[Literal["none"]] = "none"
    answer: ClassVar[Callable[[ImageSet], Any] | None] = None

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        return Poison(paint(images), Budget("none"))

    def function_of_class(
        self, images: ImageSet, poisoned: Pixels, harness: Harness
    ) -> Callable[[ImageSet], Pixels] | None:
        seen.append((images, poisoned))
        return self.answer


seen: list[tuple[ImageSet, Pixels]] = []


def paint(images: ImageSet) -> Pixels:
    found = images.images.copy()
    found[:, 0] = 100 * images.labels[:, None, None]
    return found


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> type[Painted]:
    monkeypatch.setattr(registry.attacks, "_from_files", {})
    data = small_data()
    monkeypatch.setattr(grid, "_data", lambda *_: data)
    monkeypatch.setattr(Painted, "answer", staticmethod(paint))
    seen.clear()
    return Painted


def run(out: Path, *methods: Any, **more: Any) -> Any:
    plan = api.make_plan(methods=methods, settings=SHORT, **more)
    summary = api.run(plan, out, device="cpu")
    return summary, api.load_records(out)


def test_records_and_tables_show_the_accuracy_on_poisoned_test_images(
    painted: type[Painted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[Pixels] = []

    def accuracy(_model: Any, images: Any, _labels: Any) -> float:
        tested.append(images.permute(0, 2, 3, 1).numpy())
        return 62.5

    monkeypatch.setattr(poisoned_test, "accuracy", accuracy)
    rho_a = [Radius("0"), Radius("1/255")]
    summary, frame = run(tmp_path / "out", painted, "random", rho_a=rho_a)
    assert not summary.failures
    found = dict(zip(frame["attack"], frame["poisoned_test_accuracy"], strict=True))
    assert found["painted"] == 62.5
    assert np.isnan([found["clean"], found["random"]]).all()
    test = small_data().test
    np.testing.assert_array_equal(tested[0], paint(test))
    assert all(len(images) == 12 for images, _ in seen)  # never the test images
    (table,) = Main().render(frame)
    assert [column.heading for column in table.columns] == [
        "rho_a 0", "rho_a 1/255", "poisoned test, rho_a 0", "poisoned test, rho_a 1/255",
    ]  # fmt: skip
    texts = {
        row.label: [entry_text(entry, "") for entry in row.entries[2:] if entry]
        for row in table.rows
    }
    assert texts == {"clean": ["-", "-"], "random": ["-", "-"], "painted": ["62.5", "62.5"]}
    rows = aggregate(frame).set_index(["attack", "rho_a"])["poisoned_test_accuracy_mean"]
    assert rows["painted"].tolist() == [62.5, 62.5]
    assert rows["random"].isna().all()
    for form in ("markdown", "latex", "csv", "html"):
        assert "62.5" in str(api.render(frame, "main", form))


def test_tables_have_no_such_column_if_no_row_has_it(
    painted: type[Painted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painted, "answer", None)
    _, frame = run(tmp_path / "out", painted)
    (table,) = Main().render(frame)
    assert [column.heading for column in table.columns] == ["rho_a 0"]


def test_a_function_of_the_wrong_kind_fails_the_cell(
    painted: type[Painted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = staticmethod(lambda others: others.images[:1])
    monkeypatch.setattr(painted, "answer", wrong)
    summary, _ = run(tmp_path / "out", painted)
    (failure,) = summary.failures
    assert failure.reason == (
        "the function that attack 'painted' returned from function_of_class must give uint8 "
        "[6, 16, 16, 3] for the test images"
    )


def test_chosen_classes_and_the_clean_subset_have_none(
    painted: type[Painted], tmp_path: Path
) -> None:
    _, frame = run(tmp_path / "classes", painted, protect_classes=["a"], clean=False)
    assert frame["poisoned_test_accuracy"].isna().all()
    _, frame = run(tmp_path / "share", painted, protect=[0.5])
    by_method = dict(zip(frame["attack"], frame["poisoned_test_accuracy"].isna(), strict=True))
    assert by_method == {"remainder": True, "painted": False}
