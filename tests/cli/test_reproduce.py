"""`ubench reproduce`: what counts as the same result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Command, keys
from msgspec.structs import replace

from unlearnable_bench.curation import reproduction
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.seal import sealed_json, unsealed_json


def test_a_cell_is_reproduced_bit_for_bit(ubench: Command) -> None:
    data = ("--dataset", "npz:tiny.npz", "--device", "cpu")
    found = ubench("reproduce", "results", keys()["sem[steps=2]"][:9], *data)
    assert (found.code, found.out.splitlines()[-1]) == (0, "verdict   reproduced, bit for bit")
    assert "the same kind of machine" in found.out


def test_a_folder_that_has_the_cell_reproduces_nothing(ubench: Command) -> None:
    key, data = keys()["clean"], ("--dataset", "npz:tiny.npz", "--device", "cpu")
    found = ubench("reproduce", "results", key, *data, "--out", "results")
    assert found.code == 2
    assert f"results has the cell {key} already, so nothing would be computed again" in found.err
    assert ubench("reproduce", "results", key, *data, "--out", "again").code == 0


def change(key: str, **changed: Any) -> None:
    path = Path("results/cells", f"{key}.json")
    fields = json.loads(unsealed_json(path.read_bytes())[0])
    device = changed.pop("device", None)
    if device:
        fields["environment"]["device"] = device
    path.write_text(sealed_json(fields | changed))


def test_a_cell_is_computed_with_the_threads_of_its_record(ubench: Command) -> None:
    key, data = keys()["clean"], ("--dataset", "npz:tiny.npz", "--device", "cpu")
    folder = ResultsFolder(Path("results"))
    (record,) = [one for one in folder.records() if one.key == key]
    change(key, environment=record.environment | {"threads": 2})
    assert "threads: 2, 1" not in ubench("reproduce", "results", key, *data).out
    assert "threads: 2, 1" in ubench("reproduce", "results", key, *data, "--threads", "1").out


@pytest.mark.parametrize(
    ("device", "points", "code", "verdict"),
    [
        (None, 0.5, 2, "not reproduced: results on the same kind of CPU must be identical"),
        ("NVIDIA T", 0.5, 0, "reproduced within 1 points"),
        ("NVIDIA T", 2, 2, "not reproduced: beyond 1 points"),
    ],
)
def test_another_number_is_reproduced_only_on_another_machine_and_within_the_tolerance(
    ubench: Command, device: str | None, points: float, code: int, verdict: str
) -> None:
    key = keys()["clean"]
    (record,) = [one for one in ResultsFolder(Path("results")).records() if one.key == key]
    accuracy = abs(record.test_accuracy - points)
    change(key, device=device, test_accuracy=accuracy, epoch_accuracy=[accuracy])
    data = ("--dataset", "npz:tiny.npz", "--device", "cpu", "--tolerance", "1")
    found = ubench("reproduce", "results", key, *data)
    assert (found.code, found.out.splitlines()[-1]) == (code, f"verdict   {verdict}")
    assert ("another kind of machine" in found.out) == (device is not None)


@pytest.mark.usefixtures("ubench")
@pytest.mark.parametrize(("device", "exact"), [("CPU (x86_64)", True), ("NVIDIA H200", False)])
def test_a_gpu_need_not_repeat_the_last_bits(device: str, exact: bool) -> None:
    (record,) = [one for one in ResultsFolder(Path("results")).records() if one.attack == "clean"]
    place = {"environment": record.environment | {"device": device}}
    poison = record.poison | place
    record = replace(record, **place, poison=poison)
    again = replace(record, poison=poison | {"sha256": "other"}, test_accuracy=52.0)
    near = reproduction.compare(replace(record, test_accuracy=50.0), again, 5)
    assert (near.same_kind, near.exact, near.identical) == (True, exact, False)
    assert near.is_reproduced is not exact
    assert not reproduction.compare(replace(record, test_accuracy=40.0), again, 5).is_reproduced


def test_a_cell_of_other_data_is_not_reproduced(refused: Callable[..., str]) -> None:
    key = keys()["clean"]
    assert "give --dataset npz:PATH: PATH: the file or folder of npz:tiny," in refused(
        "reproduce", "results", key
    )
    message = refused("reproduce", "results", key, "--dataset", "shapes", "--device", "cpu")
    assert "this version makes another cell of" in message
    assert "in the record" in message
