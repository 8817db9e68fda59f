"""The order of a saved array is checked by labels, file names and the images themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from file_arrays import COUNT, IMAGES, NOISE, POISONED

from unlearnable_bench import ImageSet, Radius, UserError
from unlearnable_bench.attacks.file import File

EVERY = Radius("255/255")
LABELS = IMAGES.labels
# Names as of a folder that is sorted as text: 0.png, 1.png, 10.png, ...
FILES = tuple(sorted(f"cat/{k}.png" for k in range(COUNT)))
NAMED = ImageSet(IMAGES.images, IMAGES.labels, IMAGES.classes, FILES)


def check(path: Path, images: ImageSet = IMAGES) -> str:
    attack = File(path=str(path), rho_u=EVERY)
    return attack.resolved(images).check(images)


def by_number(array: np.ndarray) -> np.ndarray:
    """Return rows 0, 1, 2, ... of images that are sorted as 0, 1, 10, 11, ..."""
    return array[np.argsort([int(name[4:-4]) for name in FILES])]


def scrambled(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2).reshape(array.shape)


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "reversed": lambda array: array[::-1],
    "sorted by class": lambda array: array[np.argsort(LABELS, kind="stable")],
    "as numbers": by_number,
    "shuffled": lambda array: array[np.random.default_rng(3).permutation(COUNT)],
    "shifted by one": lambda array: np.roll(array, 1, axis=0),
    "two swapped": lambda array: array[[1, 0, *range(2, COUNT)]],
}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("form", ["uint8", "float32", "int16"])
def test_images_in_another_order_are_refused_at_any_radius(
    tmp_path: Path, name: str, form: str
) -> None:
    array = ORDERS[name](POISONED)
    np.save(tmp_path / "poison.npy", (array / 255).astype("f4") if form == "float32" else array)
    if form == "int16":
        np.save(tmp_path / "poison.npy", array.astype(np.int16))
    with pytest.raises(UserError, match="closer to another clean image than to their own"):
        check(tmp_path / "poison.npy")


@pytest.mark.parametrize("name", ["reversed", "shuffled", "sorted by class"])
def test_dark_images_in_another_order_are_not_taken_for_noise(tmp_path: Path, name: str) -> None:
    digits = np.where(np.random.default_rng(7).random(IMAGES.images.shape) < 0.2, 230, 0)
    images = ImageSet(digits.astype(np.uint8), LABELS, 4)
    poisoned = np.clip(digits + NOISE, 0, 255) / 255
    np.save(tmp_path / "poison.npy", poisoned)
    assert "poisoned images in values 0 to 1" in check(tmp_path / "poison.npy", images)
    np.save(tmp_path / "poison.npy", ORDERS[name](poisoned))
    with pytest.raises(UserError, match="closer to another clean image"):
        check(tmp_path / "poison.npy", images)


def test_images_in_their_order_are_accepted(tmp_path: Path) -> None:
    np.save(tmp_path / "poison.npy", POISONED)
    assert check(tmp_path / "poison.npy").endswith("each is nearest to its own clean image")


@pytest.mark.parametrize("radius", [8, 64])
def test_frames_of_a_film_are_not_strangers(tmp_path: Path, radius: int) -> None:
    random = np.random.default_rng(9)
    frame = random.integers(60, 190, IMAGES.images.shape[1:])
    drift = np.cumsum(random.random(IMAGES.images.shape) < 0.02, axis=0)
    images = ImageSet((frame + drift).astype(np.uint8), LABELS, 4)
    noise = random.integers(-radius, radius + 1, images.images.shape)
    np.save(tmp_path / "poison.npy", np.clip(images.images + noise, 0, 255).astype(np.uint8))
    assert "order checked" in check(tmp_path / "poison.npy", images)


def test_bare_noise_says_that_nothing_is_checked(tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", NOISE[::-1])
    assert check(tmp_path / "noise.npy").endswith("; order not checked")


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[labels]


@pytest.mark.parametrize("key", ["labels", "y", "y_train", "label", "targets"])
@pytest.mark.parametrize(
    "form", [np.asarray, one_hot, lambda y: y[:, None], lambda y: y.astype(np.uint8)]
)
def test_labels_in_the_file_are_checked(
    tmp_path: Path, key: str, form: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = tmp_path / "noise.npz"
    np.savez(path, noise=NOISE, **{key: form(LABELS)})
    assert check(path).endswith("; order checked: labels agree")
    order = np.roll(np.arange(COUNT), 1)
    np.savez(path, noise=NOISE[order], **{key: form(LABELS[order])})
    words = r"the label of 40 of 40 rows is not that of the data set, e.g. of row 0: 3 instead of 0"
    with pytest.raises(UserError, match=words):
        check(path)


def test_file_names_in_the_file_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    for prefix in ("", "train/cat/", "/data/train/"):
        names = [prefix + (name if prefix[-4:-1] != "cat" else name[4:]) for name in FILES]
        np.savez(path, noise=NOISE, files=np.array(names))
        assert check(path, NAMED).endswith("; order checked: file names agree")
    np.savez(path, noise=NOISE, files=np.array([FILES[0], *FILES[:-1]]))
    with pytest.raises(UserError, match="image 0 has more than one row; give it one"):
        check(path, NAMED)
    np.savez(path, noise=NOISE, files=np.array(["dog/0.png", *FILES[1:]]))
    words = r"the file of 1 of 40 rows .* row 0: dog/0.png instead of cat/0.png; sort the array"
    with pytest.raises(UserError, match=words):
        check(path, NAMED)
    np.savez(path, noise=NOISE, files=np.array(FILES))
    assert check(path).endswith("order not checked (the data set has no file names)")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("file,label\n{rows}", True),
        ("Label\n{labels}", True),
        ("{labels}", True),
        ("{files}", True),
        ("\ufefffilename;x,label\n{rows}", True),
        ("{reversed}", False),
        ("file,label\n{swapped}", False),
        ("y\n{labels}\n0", False),
    ],
)
def test_a_csv_of_the_same_name_is_checked(tmp_path: Path, text: str, good: bool) -> None:
    rows = [f"{name},{label}" for name, label in zip(FILES, LABELS, strict=True)]
    texts = {
        "rows": "\n".join(rows),
        "swapped": "\n".join([rows[1], rows[0], *rows[2:]]),
        "labels": "\n".join(map(str, LABELS)),
        "files": "\n".join(FILES),
        "reversed": "\n".join(FILES[::-1]),
    }
    np.save(tmp_path / "noise.npy", NOISE)
    (tmp_path / "noise.csv").write_text(text.format(**texts), encoding="utf-8")
    if good:
        assert "order checked" in check(tmp_path / "noise.npy", NAMED)
    else:
        with pytest.raises(UserError, match=r"noise\.csv"):
            check(tmp_path / "noise.npy", NAMED)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"labels": LABELS[:-1]}, "has 39 labels for 40 rows"),
        ({"labels": LABELS + 0.5}, "labels must be whole numbers"),
        ({"labels": np.array(["cat"] * COUNT)}, "labels must be whole numbers, not cat"),
        ({"labels": np.ones((COUNT, 4))}, "are not one-hot"),
        ({"files": np.array(FILES[1:])}, "has 39 file names for 40 rows"),
        ({"labels": LABELS, "y": LABELS}, "holds labels and y, of one meaning"),
        ({"mask": NOISE}, "holds mask, noise; save one array"),
        ({"index": np.arange(COUNT) + 0.5}, "indices must be whole numbers, not 0.5"),
        ({"index": np.arange(COUNT - 1)}, "has 39 indices for 40 rows"),
    ],
)
def test_what_cannot_be_checked_is_refused(
    tmp_path: Path, beside: dict[str, np.ndarray], words: str
) -> None:
    np.savez(tmp_path / "noise.npz", noise=NOISE, **beside)
    with pytest.raises(UserError, match=words):
        check(tmp_path / "noise.npz", NAMED)


def test_many_arrays_are_refused_in_a_short_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", **{f"image{k:03}": np.zeros(3) for k in range(200)})
    with pytest.raises(UserError, match=r"holds image000, .*image004, \.\.\.; save one") as error:
        check(tmp_path / "many.npz")
    assert len(str(error.value)) < 400


def test_pixels_in_another_layout_are_refused(tmp_path: Path) -> None:
    textured = np.random.default_rng(5).integers(0, 256, IMAGES.images.shape, dtype=np.uint8)
    images = ImageSet(textured, LABELS, 4)
    np.save(tmp_path / "poison.npy", scrambled(textured))
    with pytest.raises(UserError, match="or check their layout"):
        check(tmp_path / "poison.npy", images)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (IMAGES.images, "changes no image: it holds the clean images"),
        (np.zeros_like(NOISE), "changes no image: it holds noise below half a level"),
        (np.full(NOISE.shape, 0.4 / 255), "changes no image: it holds noise below half a level"),
    ],
    ids=["clean images", "zeros", "under half a level"],
)
def test_a_file_that_changes_no_image_is_refused_before_the_run(
    tmp_path: Path, array: np.ndarray, words: str
) -> None:
    np.save(tmp_path / "noise.npy", array)
    with pytest.raises(UserError, match=words):
        check(tmp_path / "noise.npy")


def test_an_array_that_ends_early_is_told_so(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", NOISE)
    (tmp_path / "noise.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:500])
    with pytest.raises(UserError, match="it ends early; copy or download it again"):
        check(tmp_path / "noise.npy")
