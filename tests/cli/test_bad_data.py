"""Data that cannot be used are refused in one line, and never unpickled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import arrays, run_tiny
from PIL import Image


class Trap:
    """Unpickling it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def spoiled(**changes: Any) -> dict[str, Any]:
    return arrays() | changes


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"images": np.zeros(3)}, "lacks x_train, y_train, x_test, y_test, class_names"),
        ({k: v for k, v in arrays().items() if k != "class_names"}, "lacks class_names"),
        (spoiled(x_train=arrays()["x_train"] / 255), "uint8"),
        (spoiled(x_train=arrays()["x_train"][..., 0]), "[N, H, W, 3]"),
        (spoiled(x_train=arrays()["x_train"][:, :8]), "square"),
        (spoiled(x_train=arrays()["x_train"].reshape(-1)), "[N, H, W, 3]"),
        (spoiled(x_test=arrays()["x_test"][:, :8, :8]), "differ in size"),
        (spoiled(x_train=arrays()["x_train"][:0], y_train=arrays()["y_train"][:0]), "no images"),
        (spoiled(y_train=arrays()["y_train"].astype(float)), "integers"),
        (spoiled(y_train=arrays()["y_train"][1:]), "int64 [120]"),
        (spoiled(y_train=arrays()["y_train"] + 1), "0..3"),
        (spoiled(y_test=arrays()["y_test"] - 1), "0..3"),
        (spoiled(y_train=arrays()["y_train"].astype(np.uint64) + 2**63), "0..3"),
        (spoiled(class_names=np.array(["one"])), "two classes"),
    ],
)
def test_an_npz_file_of_another_form_is_refused(
    refused: Callable[..., str], workplace: Path, content: dict[str, Any], part: str
) -> None:
    np.savez(workplace / "odd.npz", **content)
    message = refused(*run_tiny("--methods", "sem", "--dataset", "npz:odd.npz"))
    assert part in message
    assert "odd" in message


def test_an_npz_file_that_cannot_be_read_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    def message() -> str:
        return refused(*run_tiny("--methods", "sem", "--dataset", "npz:odd.npz"))

    odd = workplace / "odd.npz"
    assert "no file odd.npz" in message()
    whole = (workplace / "tiny.npz").read_bytes()
    for text in (b"not an archive", whole[: len(whole) // 2]):
        odd.write_bytes(text)
        assert "odd.npz is not a readable .npz file" in message()
    odd.write_bytes(b"")
    assert "odd.npz is empty" in message()
    with odd.open("wb") as file:
        np.save(file, arrays()["x_train"])
    assert "this file holds one array [120, 16, 16, 3]" in message()


def test_a_damaged_compressed_npz_file_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    odd = workplace / "odd.npz"
    np.savez_compressed(odd, **arrays())
    damaged = bytearray(odd.read_bytes())
    damaged[500:540] = b"\xff" * 40
    odd.write_bytes(damaged)
    message = refused(*run_tiny("--methods", "sem", "--dataset", "npz:odd.npz"))
    assert "odd.npz is not a readable .npz file" in message


def test_a_pickled_array_is_refused_and_not_unpickled(
    refused: Callable[..., str], workplace: Path
) -> None:
    trap = np.array([Trap()], dtype=object)
    np.savez(workplace / "odd.npz", **spoiled(class_names=trap))
    message = refused(*run_tiny("--methods", "sem", "--dataset", "npz:odd.npz"))
    assert "odd.npz: class_names is an array of Python objects" in message
    assert "save it as np.array(class_names.tolist(), dtype=str)" in message
    assert not (workplace / "sprung").exists()
    # The trap works where something does unpickle it.
    with np.load(workplace / "odd.npz", allow_pickle=True) as file:
        file["class_names"]
    assert (workplace / "sprung").exists()


def write_images(root: Path, classes: tuple[str, ...] = ("cat", "dog"), size: int = 8) -> None:
    for split in ("train", "test"):
        for k, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for n in range(2):
                picture = Image.new("RGB", (size, size), (100 * k, 50, 10 * n))
                picture.save(root / split / name / f"{n}.png")


def test_a_folder_that_is_no_data_set_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    def message(name: str) -> str:
        return refused(*run_tiny("--methods", "sem", "--dataset", f"folder:{name}"))

    assert "none/train" in message("none")
    write_images(workplace / "one", ("cat",))
    assert "allowed: two or more" in message("one")

    write_images(workplace / "torn")
    (workplace / "torn" / "train" / "dog" / "1.png").write_bytes(b"no image")
    assert "torn/train/dog/1.png" in message("torn")

    write_images(workplace / "mixed")
    Image.new("RGB", (9, 9)).save(workplace / "mixed" / "train" / "dog" / "1.png")
    assert "mixed/train/dog/1.png is 9x9" in message("mixed")
    assert "folder.size" in message("mixed")

    write_images(workplace / "more")
    (workplace / "more" / "test" / "emu").mkdir()
    Image.new("RGB", (8, 8)).save(workplace / "more" / "test" / "emu" / "1.png")
    assert "emu" in message("more")

    for name in ("cat", "dog"):
        (workplace / "empty" / "train" / name).mkdir(parents=True)
    (workplace / "empty" / "test").mkdir()
    assert "no images" in message("empty")


@pytest.mark.parametrize("text", [b"P6\n1x 16\n255\n", b"P6\n16"])
def test_an_image_that_its_decoder_stumbles_over_is_named(
    refused: Callable[..., str], workplace: Path, text: bytes
) -> None:
    write_images(workplace / "torn")
    (workplace / "torn" / "train" / "dog" / "1.ppm").write_bytes(text)
    message = refused(*run_tiny("--methods", "sem", "--dataset", "folder:torn"))
    assert "torn/train/dog/1.ppm" in message
