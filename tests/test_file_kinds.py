"""A file that is not an array is called by what it is, with the next step."""

import gzip
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_images
from PIL import Image
from scipy.io import savemat

from unlearnable_bench import UserError
from unlearnable_bench.attacks.file import File
from unlearnable_bench.file_kinds import kind_of

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


def picture_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(250):
            archive.writestr(f"data/{k}.png", b"")


def text_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "")


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "lfs": (lambda p: p.write_bytes(POINTER), "is a Git LFS pointer.*git lfs pull"),
    "html": (lambda p: p.write_text("\n <!doctype html><p>404"), "is an HTML page"),
    "xhtml": (lambda p: p.write_text('<?xml version="1.0"?><HTML>Sign in'), "is an HTML page"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps([1])), "is a Python pickle, which can run"),
    "old pickle": (lambda p: p.write_bytes(pickle.dumps({1: 2}, 0)), "is a Python pickle"),
    "torch": (lambda p: torch.save(torch.zeros(3), p), "file of torch.save.*weights_only=True"),
    "old torch": (
        lambda p: torch.save(torch.zeros(3), p, _use_new_zipfile_serialization=False),
        "is a Python pickle",
    ),
    "matlab": (lambda p: savemat(p, {"a": 1}, appendmat=False), "is a MATLAB file.*loadmat"),
    "hdf5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n"), "is an HDF5 file.*h5py"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"a")), "is compressed with gzip; unpack"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "picture": (lambda p: Image.new("RGB", (2, 2)).save(p, "PNG"), "is a picture"),
    "zip": (picture_zip, r"data/0\.png is not a readable picture; repair or remove it"),
    "text zip": (text_zip, "is a zip of 1 files without an array"),
    "folder": (Path.mkdir, "is a folder without pictures; give a file, or a folder of INDEX.png"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str) -> None:
    write, words = KINDS[name]
    path = tmp_path / "noise.npy"
    write(path)
    attack = File(path=str(path))
    step = attack.fingerprint if path.is_dir() else lambda: attack.check(random_images())
    with pytest.raises(UserError, match=words) as error:
        step()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(path))


def test_arrays_have_no_kind_to_be_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", np.zeros(3))
    assert kind_of(tmp_path / "a.npy") is None
    assert kind_of(tmp_path / "a.npz") is None
    assert kind_of(tmp_path / "none") is None


def test_a_zip_of_pictures_is_no_array(tmp_path: Path) -> None:
    picture_zip(tmp_path / "tap.zip")
    assert kind_of(tmp_path / "tap.zip") == (
        "is a zip of 250 pictures, not of arrays; unpack it, and write folder:DIR"
    )


def test_a_zip_whose_directory_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    text_zip(path)
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x03"))
    assert zipfile.is_zipfile(path)
    assert kind_of(path) == "is a damaged zip archive; copy or download it again"
