"""Every stored file is checked whole: one flipped bit anywhere is noticed."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from helpers import Interrupting, Interruption, make_harness, small_data
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import RECORD, poison_with_facts

from unlearnable_bench import UserError, make_plan, run
from unlearnable_bench.datasets.npz import read_npz, write_npz
from unlearnable_bench.file_kinds import is_pickle
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.progress import Silent
from unlearnable_bench.harness.weights import read_tensors, write_tensors
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.samples import read_noise, read_strip, write_samples
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.damage import DamagedError, collected
from unlearnable_bench.storage.seal import (
    PLACEHOLDER,
    check_file,
    sealed_json,
    unsealed_json,
)

CPU = torch.device("cpu")


def flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)


def state(path: Path) -> None:
    """Write the checkpoint of a loop that was interrupted after two steps."""
    harness = make_harness()
    harness.checkpoint = Checkpoint(path, interval=0)
    harness.progress = Interrupting("steps", 2)
    harness.keep(sums=torch.arange(40.0))
    with pytest.raises(Interruption):
        list(harness.loop("steps", 9))


def resumed(path: Path) -> None:
    harness = make_harness()
    harness.checkpoint, harness.progress = Checkpoint(path), Silent()
    sums = torch.full((40,), -1.0)
    harness.keep(sums=sums)
    if not path.exists():  # set aside
        assert sums.tolist() == [-1.0] * 40
        assert [*harness.loop("steps", 9)] == [*range(9)]
        raise DamagedError(path, "set aside")
    assert sums.tolist() == torch.arange(40.0).tolist()
    assert [*harness.loop("steps", 9)] == [*range(2, 9)]


def write_poison(path: Path) -> None:
    path.parent.rmdir()
    ResultsFolder(path.parent.parent, create=True).write_poison("a", *poison_with_facts())


def write_strip(path: Path) -> None:
    data = small_data()
    noisy = np.minimum(data.train.images, 250) + np.uint8(3)
    write_samples(path.parent.parent, "a", data.train, noisy, data.class_names)


KINDS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "network": (
        "networks/a.safetensors",
        lambda path: write_tensors(path, {"w": torch.arange(50.0)}, step=3),
        lambda path: read_tensors(path, CPU),
    ),
    "checkpoint": ("work/a.safetensors", state, resumed),
    "poison": (
        "poisons/a.safetensors",
        write_poison,
        lambda path: ResultsFolder(path.parent.parent).poison("a"),
    ),
    "strip": (
        "strips/a.safetensors",
        write_strip,
        lambda path: read_strip(path.parent.parent, "a"),
    ),
    "noise": (
        "noise/a.safetensors",
        write_strip,
        lambda path: read_noise(path.parent.parent, "a"),
    ),
    "data": (
        "cache/a.npz",
        lambda path: write_npz(small_data(), path),
        lambda path: read_npz(path, "a"),
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def stored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes, Callable[[Path], Any]]:
    name, write, read = KINDS[request.param]
    path = tmp_path_factory.mktemp(request.param) / name
    path.parent.mkdir()
    write(path)
    read(path)
    return path, path.read_bytes(), read


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_one_flipped_bit_of_a_binary_file_is_noticed(
    stored: tuple[Path, bytes, Callable[[Path], Any]], place: int, bit: int
) -> None:
    path, whole, read = stored
    path.write_bytes(whole)
    flip(path, place, bit)
    with collected(), pytest.raises((UserError, ValueError)):
        read(path)


@pytest.mark.parametrize("length", [int.from_bytes(b"PK", "little"), 0x10280])
def test_a_header_of_any_length_is_that_of_safetensors(tmp_path: Path, length: int) -> None:
    # The file then begins as a zip, or as a pickle.
    path = tmp_path / "a.safetensors"
    kept = {"kept": torch.arange(3.0)}
    write_tensors(path, kept, padding="")
    padding = length - int.from_bytes(path.read_bytes()[:8], "little")
    write_tensors(path, kept, padding="x" * padding)
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    assert check_file(path)
    assert not is_pickle(path)
    whole = path.read_bytes()
    for place in (*range(9), 8 + length):
        for bit in range(8):
            path.write_bytes(whole)
            flip(path, place, bit)
            with pytest.raises(ValueError, match="does not match"):
                check_file(path)


def test_a_whole_file_is_read(stored: tuple[Path, bytes, Callable[[Path], Any]]) -> None:
    path, whole, read = stored
    path.write_bytes(whole)
    assert check_file(path)
    read(path)


@settings(max_examples=400, deadline=None)
@given(place=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_one_flipped_bit_of_a_record_is_refused_or_in_its_layout(place: int, bit: int) -> None:
    text = bytearray(RECORD.to_json().encode())
    text[place % len(text)] ^= 1 << bit
    try:
        record = Record.from_json(bytes(text))
    except ValueError:
        return
    assert record == RECORD  # a space became another white space
    assert record.has_checksum


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_one_flipped_bit_of_a_plan_is_refused_or_in_its_layout(place: int, bit: int) -> None:
    plan = {"cells": ["a" * 32, "b" * 32], "labels": [{"seed": 0}, {"seed": 1}], "command": "x"}
    text = bytearray(sealed_json(plan).encode())
    text[place % len(text)] ^= 1 << bit
    try:
        found, sealed = unsealed_json(bytes(text))
    except ValueError:
        return
    assert sealed
    assert json.loads(found) == plan


def test_a_checksum_covers_the_content_not_the_layout() -> None:
    fields = json.loads(RECORD.to_json())
    for text in (json.dumps(fields), json.dumps(fields, indent=4), RECORD.to_json()):
        record = Record.from_json(text.encode())
        assert record == RECORD
        assert record.has_checksum
    for change in ({"test_accuracy": 13.5}, {"checksum": PLACEHOLDER}, {"checksum": None}):
        with pytest.raises(ValueError, match="does not match its checksum"):
            Record.from_json(json.dumps(fields | change).encode())


def test_the_checksum_is_the_sha256_of_the_text_with_zeros_in_its_place() -> None:
    # echo of the text with zeros, and sha256sum:
    assert sealed_json({"a": 1}) == (
        '{\n "a": 1,\n "checksum": '
        '"sha256:92efebdc3eb7bf8196b713a8e5bc851e2c7448fe0b618b18d7d68eefc97eac9f"\n}\n'
    )


def test_files_of_others_need_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "theirs.npz"
    np.savez(path, a=np.zeros(3), checksum=np.zeros(1))
    assert not check_file(path)
    write_npz(small_data(), tmp_path / "mine.npz")
    assert check_file(tmp_path / "mine.npz")
    content = (tmp_path / "mine.npz").read_bytes()
    (tmp_path / "mine.npz").write_bytes(content.replace(b"sha256:", b"sha257:"))
    with pytest.raises(ValueError, match="does not match its checksum"):
        check_file(tmp_path / "mine.npz")


def test_a_record_of_an_older_version_has_no_checksum() -> None:
    record = Record.from_json(json.dumps(msgspec.to_builtins(RECORD)).encode())
    assert record == RECORD
    assert not record.has_checksum


@pytest.mark.parametrize(
    "change",
    [
        {"learner": "resnet18"},
        {"defense": "jpeg"},
        {"rho_a": "3/255"},
        {"protect": 0.25},
        {"rho_u": {"norm": "linf", "value": "16/255"}},
        {"attack": "rem"},
        {"dataset": "cifar10"},
        {"preset": "paper"},
        {"seed": 1},
    ],
)
def test_a_record_that_contradicts_its_identity_is_refused(change: dict[str, Any]) -> None:
    identity = {
        "poison": {"seed": 0},
        "learner": {"name": "small-cnn"},
        "defense": {"name": "none"},
        "rho_a": "4/255",
        "protection": {"share": 1.0},
        "labels": ["shapes", "sem[steps=3]", "smoke"],
    }
    budget = {"norm": "linf", "radius": "8/255"}
    fields = msgspec.to_builtins(RECORD)
    fields |= {"identity": identity, "poison": fields["poison"] | {"budget": budget}}
    assert Record.from_json(json.dumps(fields).encode()).learner == "small-cnn"
    equal = fields | {"rho_a": "8/510"}  # the same radius, as another user wrote it
    assert Record.from_json(json.dumps(equal).encode()).rho_a == "8/510"
    for text in (json.dumps(fields | change), sealed_json(fields | change)):
        with pytest.raises(ValueError, match=rf"{next(iter(change))}.* differ"):
            Record.from_json(text.encode())


def test_a_checkpoint_of_other_work_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "seed0.safetensors"
    state(path)
    path.rename(tmp_path / "seed1.safetensors")
    with pytest.raises(DamagedError):
        resumed(tmp_path / "seed1.safetensors")
    assert "seed1.safetensors is damaged (its key is seed0); moved to" in caplog.text
    assert (tmp_path / "damaged" / "seed1.safetensors").exists()


def test_a_damaged_network_is_trained_again_with_the_same_poison(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = small_data()
    np.savez(
        tmp_path / "d.npz",
        x_train=data.train.images,
        y_train=data.train.labels,
        x_test=data.test.images,
        y_test=data.test.labels,
        class_names=np.array(data.class_names),
    )
    out = tmp_path / "out"
    plan = make_plan(
        methods=["tap"], dataset=f"npz:{tmp_path / 'd.npz'}", clean=False,
        settings={"training.epochs": "1", "tap.steps": "2"},
    )  # fmt: skip
    assert run(plan, out, device="cpu").computed == 1
    (before,) = ResultsFolder(out).records()
    for place in (5, 60_003, -1):
        (network,) = out.glob("networks/*.safetensors")
        for path in (*out.glob("cells/*.json"), *out.glob("poisons/*.safetensors")):
            path.unlink()
        flip(network, place, 5)
        caplog.clear()
        assert run(plan, out, device="cpu").computed == 1
        assert f"{network.name} is damaged" in caplog.text
        (after,) = ResultsFolder(out).records()
        assert after.poison["sha256"] == before.poison["sha256"]
    assert len([*out.glob("networks/damaged/*")]) == 3


@pytest.mark.parametrize("change", ["noise", "promise", "shape", "identity"])
def test_a_merged_poison_that_breaks_its_promise_is_generated_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    out = tmp_path / "out"
    plan = make_plan(
        methods=["sem"], dataset="shapes", clean=False,
        settings={"training.steps": "1", "sem.steps": "1", "shapes.train": "40",
                  "shapes.test": "10"},
    )  # fmt: skip
    run(plan, out, device="cpu")
    folder = ResultsFolder(out)
    (before,) = folder.records()
    key = before.poison["key"]
    found = folder.poison(key)
    assert found is not None
    images, about = found
    for path in (*out.glob("cells/*.json"), *out.glob("poisons/*.safetensors")):
        path.unlink()
    if change == "noise":
        images = 255 - images
    elif change == "promise":
        about |= {"budget": {"norm": "linf", "radius": "1/255"}}
    elif change == "shape":
        images = images[1:]
    else:
        about |= {"identity": about["identity"] | {"seed": 1}}
    folder.write_poison(key, images, about | {"sha256": hashlib.sha256(images.data).hexdigest()})
    assert run(plan, out, device="cpu").computed == 1
    assert f"{key}.safetensors is damaged" in caplog.text
    (after,) = folder.records()
    assert after.poison["sha256"] == before.poison["sha256"]


def test_damaged_samples_are_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "strips" / "a.safetensors"
    write_strip(path)
    whole = read_strip(tmp_path, "a")
    flip(path, -1, 0)
    write_strip(path)
    again = read_strip(tmp_path, "a")
    assert whole is not None
    assert again is not None
    np.testing.assert_array_equal(again.poisoned, whole.poisoned)
    assert "a.safetensors is damaged" in caplog.text
