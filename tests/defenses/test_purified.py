"""Images purified elsewhere: exported, brought back, and refused if they are other images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_harness, random_images
from numpy.typing import NDArray
from PIL import Image

from unlearnable_bench import UserError, api
from unlearnable_bench.datasets.shapes import Shapes
from unlearnable_bench.defenses.purified import Purified

CLEAN = random_images(count=40, size=8)
POISONED = CLEAN.replaced(np.clip(CLEAN.images.astype(int) + 8, 0, 255).astype(np.uint8))


def saved(path: Path, images: NDArray[Any] = CLEAN.images, **more: Any) -> Purified:
    np.savez(path / "purified.npz", images=images, **more)
    return Purified(file=str(path / "purified.npz"))


def test_the_images_of_the_file_are_trained_on(tmp_path: Path) -> None:
    defense = saved(tmp_path, CLEAN.images.transpose(0, 3, 1, 2), labels=CLEAN.labels)
    line = defense.check(CLEAN)
    assert "order checked: labels agree, each is nearest to its own clean image" in line
    assert "its poison is not checked" in line
    found = defense.prepare(POISONED, make_harness())
    np.testing.assert_array_equal(found.images, CLEAN.images)
    np.testing.assert_array_equal(found.labels, CLEAN.labels)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (CLEAN.images[::-1], "of 40 images are closer to another clean image than to their own"),
        (CLEAN.images[:39], "has 39 rows, the data has 40 images in 3 classes"),
        (CLEAN.images[:1], "is one for all images; give a purified image for each"),
        (random_images(count=40, size=10).images, r"holds rows of \[10, 10, 3\], the images are"),
        (CLEAN.images / 255, "holds float64; save the purified images as uint8"),
        (np.array([None]), "it holds Python objects, which are never unpickled"),
    ],
)
def test_another_order_shape_or_type_is_refused(
    tmp_path: Path, images: NDArray[Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        saved(tmp_path, images).check(CLEAN)


@pytest.mark.parametrize("count", [40, 39])
def test_a_folder_of_pictures_is_read_by_their_numbers(tmp_path: Path, count: int) -> None:
    for k, pixels in enumerate(CLEAN.images[:count]):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    defense = Purified(file=str(tmp_path))
    if count == 39:
        with pytest.raises(UserError, match="39 of 40 images; the others stay clean; give a pur"):
            defense.check(CLEAN)
        return
    assert "each is nearest to its own clean image" in defense.check(CLEAN)
    found = defense.prepare(POISONED, make_harness())
    np.testing.assert_array_equal(found.images, CLEAN.images)


def test_another_data_set_and_other_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="closer to another clean image than to their own"):
        saved(tmp_path, random_images(count=40, size=8, seed=1).images).check(CLEAN)
    with pytest.raises(UserError, match="the label of 40 of 40 rows is not that of the data set"):
        saved(tmp_path, labels=(CLEAN.labels + 1) % 3).check(CLEAN)


def test_a_missing_file_is_refused_in_the_plan(tmp_path: Path) -> None:
    def plan(**settings: str) -> None:
        few = {"shapes.train": "80", "shapes.test": "20"} | settings
        api.make_plan(methods=["sc"], defenses=["purified"], preset="smoke", settings=few)

    with pytest.raises(UserError, match=r"add --set purified\.file=FILE"):
        plan()
    with pytest.raises(UserError, match="no such file"):
        plan(**{"purified.file": str(tmp_path / "absent.npz")})


def test_an_exported_poison_comes_back_purified_and_no_other_does(tmp_path: Path) -> None:
    settings = {"shapes.train": "80", "shapes.test": "20", "training.epochs": "1"}
    usual: dict[str, Any] = {"preset": "smoke", "settings": settings, "clean": False}
    plan = api.make_plan(methods=["sc", "random"], **usual)
    out = tmp_path / "out"
    paths = api.export(plan, out, tmp_path / "poisoned", device="cpu")
    assert [path.name[:-9] for path in paths] == ["sc-seed-0", "random-seed-0"]
    with np.load(paths[0] / "images.npz") as exported:
        assert exported["images"].shape == (80, 32, 32, 3)
        np.savez(tmp_path / "purified.npz", **exported)
    settings |= {"purified.file": str(tmp_path / "purified.npz"), "purified.leak": "clean-pairs"}
    plan = api.make_plan(methods=["sc", "random"], defenses=["none", "purified"], **usual)
    assert any("its poison is checked" in line for line in plan.remarks)
    summary = api.run(plan, out, device="cpu")
    frame = api.load_records(out)
    done = frame[frame["status"] == "done"].set_index(["attack", "defense_needs"])
    # What came back is the poison itself, so the learner is the same.
    accuracies = done.loc["sc", "test_accuracy"]
    assert accuracies["nothing"] == accuracies["clean pairs"]
    assert len(summary.failures) == 1
    assert "was made from a poison of SHA-256" in summary.failures[0].reason


def test_a_file_that_changes_after_the_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "purified.npz"
    few = {"shapes.train": "20", "shapes.test": "10", "training.epochs": "1"}
    few |= {"purified.file": str(path)}
    given: dict[str, Any] = {"methods": ["random"], "clean": False, "dataset": "shapes"}
    given |= {"preset": "smoke", "settings": few, "defenses": ["purified"]}
    images = Shapes(train=20, test=10).load().train.images
    np.savez(path, images=images)
    plan = api.make_plan(**given)
    np.savez(path, images=np.clip(images.astype(int) + 1, 0, 255).astype(np.uint8))
    (failure,) = api.run(plan, tmp_path / "out", device="cpu").failures
    assert "a file that defense 'purified' reads changed meanwhile; run the command" in str(failure)
    assert not api.load_records(tmp_path / "out").shape[0]
