"""The results folder: whole files, addresses, claims."""

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from unlearnable_bench.errors import UserError
from unlearnable_bench.identity import canonical, key_of
from unlearnable_bench.radius import Radius
from unlearnable_bench.results import marker, store
from unlearnable_bench.results.records import Bound, Record
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.damage import DamagedError
from unlearnable_bench.storage.files import write_text

IDENTITY = {"poison": {"seed": 0}, "rho_a": "4/255"}
RECORD = Record(
    format=2,
    key=key_of(IDENTITY),
    identity=IDENTITY,
    dataset="shapes",
    attack="sem[steps=3]",
    learner="small-cnn",
    defense="none",
    rho_a="4/255",
    rho_u=Bound("linf", "8/255"),
    protect=1.0,
    preset="smoke",
    seed=0,
    test_accuracy=12.5,
    peak_accuracy=25,
    epoch_accuracy=[25, 12.5],
    train_accuracy=99.0,
    poison={"key": "0" * 32, "sha256": "", "budget": {}, "seconds": 1.0, "notes": {"rounds": 3}},
    seconds={"training": 1.0, "warmup": 0.0, "evaluation": 0.5},
    resumed=False,
    peak_memory=7,
    environment={"device": "CPU", "driver": None},
    created="2026-01-01T00:00:00+00:00",
)


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results", create=True)


def poison_with_facts() -> tuple[Any, dict[str, Any]]:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    return images, {"key": "a", "sha256": digest, "notes": {"rounds": 3.5}}


def test_a_record_reads_back_as_it_was_written(folder: ResultsFolder) -> None:
    assert folder.record(RECORD.key) is None
    folder.write_record(RECORD)
    assert folder.record(RECORD.key) == RECORD
    assert list(folder.records()) == [RECORD]
    text = (folder.path / "cells" / f"{RECORD.key}.json").read_text()
    written = json.loads(text)
    assert re.fullmatch("sha256:[0-9a-f]{64}", written.pop("checksum"))
    assert written | {"noise_seed": None} == msgspec.to_builtins(RECORD)
    assert written["rho_u"] == {"norm": "linf", "value": "8/255"}


def test_what_is_written_is_never_overwritten(folder: ResultsFolder) -> None:
    images, about = poison_with_facts()
    folder.write_record(RECORD)
    folder.write_record(msgspec.structs.replace(RECORD, test_accuracy=99.0))
    assert folder.record(RECORD.key) == RECORD
    folder.write_plan("1", {"cells": ["a", "b"]})
    folder.write_plan("1", {"cells": ["b", "a"]})
    assert folder.plans() == {"1": {"cells": ["a", "b"]}}
    folder.write_poison("a", images, about)
    folder.write_poison("a", images + 1, about | {"sha256": "other"})
    found = folder.poison("a")
    assert found is not None
    assert np.array_equal(found[0], images)
    assert found[1] == about


def test_a_poison_that_was_changed_on_disk_is_refused(folder: ResultsFolder) -> None:
    images, about = poison_with_facts()
    folder.write_poison("a", images, about)
    path = folder.path / "poisons" / "a.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-1] + b"\0", whole[:-5], whole[: len(whole) // 2], b"", b"\0" * 100):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.safetensors is damaged"):
            folder.poison("a")
        assert path.read_bytes() == damaged


def test_a_reader_never_sees_half_a_record(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):  # noqa: N818
        pass

    def die(_: object) -> None:
        raise Died

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(Died):
        folder.write_record(RECORD)
    monkeypatch.undo()
    assert list((folder.path / "cells").iterdir()) == []
    # A killed process leaves its temporary file, and nobody minds.
    (folder.path / "cells" / f".{RECORD.key}.json.1.tmp").write_text("{")
    assert folder.record(RECORD.key) is None
    assert list(folder.records()) == []
    folder.write_record(RECORD)
    assert list(folder.records()) == [RECORD]


def test_a_reader_never_sees_half_a_poison(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, about = poison_with_facts()

    def die(_tensors: object, path: Path, _metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError

    monkeypatch.setattr(store, "save_file", die)
    with pytest.raises(OSError):  # noqa: PT011
        folder.write_poison("a", images, about)
    monkeypatch.undo()
    assert list((folder.path / "poisons").iterdir()) == []
    assert folder.poison("a") is None
    folder.write_poison("a", images, about)
    assert folder.poison("a") is not None


def test_what_a_killed_process_left_is_removed(folder: ResultsFolder) -> None:
    left = folder.path / "poisons" / ".a.safetensors.tmp"
    left.mkdir(parents=True)
    (left / ".tmpXb31").write_bytes(b"half")  # where safetensors writes first
    folder.write_poison("a", *poison_with_facts())
    assert [path.name for path in (folder.path / "poisons").iterdir()] == ["a.safetensors"]


def test_a_file_under_another_name_is_refused(folder: ResultsFolder) -> None:
    folder.write_poison("a", *poison_with_facts())
    (folder.path / "poisons" / "a.safetensors").rename(folder.path / "poisons" / "b.safetensors")
    with pytest.raises(UserError, match=r"b\.safetensors is damaged \(its key is a\)"):
        folder.poison("b")
    other = {"identity": RECORD.identity | {"rho_a": "1/255"}, "rho_a": "1/255"}
    changed = msgspec.structs.replace(RECORD, **other)
    write_text(folder.path / "cells" / f"{RECORD.key}.json", changed.to_json())
    with pytest.raises(UserError, match=rf"its key {RECORD.key}, the hash of its identity "):
        folder.record(RECORD.key)


def test_no_record_is_written_that_could_not_be_read(folder: ResultsFolder) -> None:
    for change in ({"seed": 0.5}, {"test_accuracy": 250.0}, {"rho_u": "0.03"}):
        with pytest.raises(ValueError, match=next(iter(change)).partition("_")[2] or "."):
            folder.write_record(msgspec.structs.replace(RECORD, **change))
    assert not (folder.path / "cells").exists()


def test_what_others_may_read_of_a_folder_they_may_read_all_of(folder: ResultsFolder) -> None:
    folder.write_record(RECORD)
    folder.write_poison("a", *poison_with_facts())
    modes = {path.stat().st_mode for path in folder.path.glob("*/*.*")}
    assert len(modes) == 1


def test_what_cannot_be_read_is_not_called_damaged(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_record(RECORD)
    folder.write_plan("1", {"cells": [RECORD.key]})

    def denied(path: Path | str) -> bytes:  # what anyone but a superuser gets
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(store, "read_bytes", denied)
    for name, read in (
        (f"cells/{RECORD.key}.json", lambda: folder.record(RECORD.key)),
        ("plans/1.json", folder.plans),
    ):
        with pytest.raises(UserError, match=rf"{name} cannot be read \(Permission denied\)"):
            read()


def test_a_folder_in_place_of_a_file_is_damage(folder: ResultsFolder) -> None:
    for name, read in (
        (f"cells/{RECORD.key}.json", lambda: folder.record(RECORD.key)),
        ("plans/1.json", folder.plans),
    ):
        (folder.path / name).mkdir(parents=True)
        with pytest.raises(DamagedError, match=rf"{name} is damaged \(it is a folder\)"):
            read()


def test_what_macos_leaves_beside_a_record_is_no_record(folder: ResultsFolder) -> None:
    folder.write_record(RECORD)
    folder.write_plan("1", {"cells": [RECORD.key]})
    for name in (f"cells/._{RECORD.key}.json", "plans/._1.json"):
        (folder.path / name).write_bytes(b"\0\5\x16\7")
    assert list(folder.records()) == [RECORD]
    assert [*folder.plans()] == ["1"]


def test_an_atomic_write_replaces_the_whole_text(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.json"
    write_text(path, "a long text")
    write_text(path, "ä")
    assert path.read_text(encoding="utf-8") == "ä"
    assert list(path.parent.iterdir()) == [path]


HOLD = """
import sys, time
from pathlib import Path
from unlearnable_bench.results.store import ResultsFolder
with ResultsFolder(Path(sys.argv[1])).claim("a", wait=True) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_claim_excludes_other_processes_until_its_owner_dies(folder: ResultsFolder) -> None:
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "True\n"
        with folder.claim("a", wait=False) as mine:
            assert not mine
        with folder.claim("b", wait=False) as other:
            assert other
        owner.send_signal(signal.SIGKILL)
    with folder.claim("a", wait=False) as mine:
        assert mine


def test_a_claim_excludes_a_second_one_of_the_same_process(folder: ResultsFolder) -> None:
    with folder.claim("a", wait=True) as first, folder.claim("a", wait=False) as second:
        assert (first, second) == (True, False)
    with folder.claim("a", wait=False) as third:
        assert third


def test_a_folder_made_by_another_process_meanwhile_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results"
    look = marker.content

    def look_and_be_late(folder: Path) -> bytes:
        seen = look(folder)
        monkeypatch.undo()
        ResultsFolder(path, create=True).write_record(RECORD)
        return seen

    monkeypatch.setattr(marker, "content", look_and_be_late)
    assert ResultsFolder(path, create=True).path == path


def test_the_remains_of_a_killed_start_do_not_count_as_content(tmp_path: Path) -> None:
    (tmp_path / ".ubench.json.1.tmp").write_text("{")
    assert list(ResultsFolder(tmp_path, create=True).records()) == []


def test_plans_read_back(folder: ResultsFolder) -> None:
    folder.write_plan("a", {"cells": ["x", "y"]})
    folder.write_plan("b", {"cells": []})
    assert folder.plans() == {"a": {"cells": ["x", "y"]}, "b": {"cells": []}}
    (folder.path / "plans" / "b.json").write_text("{}")
    with pytest.raises(UserError, match=r"b\.json is damaged"):
        folder.plans()


def test_equal_radii_have_one_address_however_they_are_written() -> None:
    keys = {key_of({"rho": Radius(text)}) for text in ("4/255", "8/510", "4.0/255", "04/255")}
    assert len(keys) == 1
    assert key_of({"rho": Radius("0")}) == key_of({"rho": Radius("0/255")})
    assert key_of({"rho": Radius("4/255")}) != key_of({"rho": Radius("4/256")})


def test_an_address_is_short_hexadecimal_and_ignores_the_order_of_fields() -> None:
    assert key_of({"a": 1, "b": [1, None]}) == key_of({"b": [1, None], "a": 1})
    assert len(key_of({})) == 32
    assert int(key_of({}), 16) >= 0
    assert key_of({"a": [1, 2]}) != key_of({"a": [2, 1]})
    assert key_of({"a": 1}) != key_of({"a": "1"})


def test_an_address_depends_on_every_field_at_every_depth() -> None:
    identity = {"poison": {"seed": 0, "data": "x", "options": {"lr": 0.1}}, "rho_a": "0"}
    changed = [
        {**identity, "rho_a": "1"},
        {**identity, "poison": {**identity["poison"], "seed": 1}},  # type: ignore[dict-item]
        {**identity, "poison": {**identity["poison"], "data": "y"}},  # type: ignore[dict-item]
        {**identity, "poison": {**identity["poison"], "options": {"lr": 0.2}}},  # type: ignore[dict-item]
        {**identity, "more": None},
    ]
    assert len({key_of(one) for one in [identity, *changed]}) == 1 + len(changed)


def test_what_has_no_exact_text_cannot_be_part_of_an_address() -> None:
    with pytest.raises(UserError, match="of type PosixPath cannot be part of a key; options"):
        canonical({"path": Path("x")})


NEEDED = [f.name for f in msgspec.structs.fields(Record) if f.required]


def test_what_older_records_lack_is_none_and_of_its_type_otherwise() -> None:
    raw = msgspec.to_builtins(RECORD)
    without = {name: value for name, value in raw.items() if name in NEEDED}
    assert Record.from_json(json.dumps(without).encode()) == RECORD
    assert (
        Record.from_json(json.dumps(raw | {"protected_accuracy": 3}).encode()).protected_accuracy
        == 3
    )
    with pytest.raises(ValueError, match="protected_accuracy"):
        Record.from_json(json.dumps(raw | {"protected_accuracy": "3"}).encode())


@pytest.mark.parametrize("field", NEEDED)
def test_a_record_without_a_field_or_of_another_type_is_refused(field: str) -> None:
    raw = msgspec.to_builtins(RECORD)
    without = {name: value for name, value in raw.items() if name != field}
    with pytest.raises(ValueError, match="format" if field == "format" else f"missing.*{field}"):
        Record.from_json(json.dumps(without).encode())
    wrong = 1 if isinstance(raw[field], str) else "wrong"
    for value in (wrong, None):
        with pytest.raises(ValueError, match=field):
            Record.from_json(json.dumps(raw | {field: value}).encode())


@pytest.mark.parametrize(
    "change", [{"test_accuracy": True}, {"seed": True}, {"seed": 1.5}, {"resumed": 1}]
)
def test_a_number_is_no_truth_value_and_the_other_way_round(change: dict[str, Any]) -> None:
    raw = msgspec.to_builtins(RECORD)
    with pytest.raises(ValueError, match=next(iter(change))):
        Record.from_json(json.dumps(raw | change).encode())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '{"format": 3}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.from_json(text.encode())


@pytest.mark.parametrize(
    ("text", "norm", "value"),
    [
        ("8/255", "linf", "8/255"),
        ("0", "linf", "0"),
        ("l2 1.3041013273932527", "l2", 1.3041013273932527),
        ("l0 1", "l0", 1.0),
        ("none", "none", None),
    ],
)
def test_a_record_of_format_1_is_read_with_the_bound_that_its_text_names(
    text: str, norm: str, value: str | float | None
) -> None:
    raw = msgspec.to_builtins(RECORD) | {"format": 1, "rho_u": text}
    record = Record.from_json(json.dumps(raw).encode())
    assert (record.format, record.rho_u.norm, record.rho_u.value) == (2, norm, value)
    assert str(record.rho_u) == text
    assert Record.from_json(record.to_json().encode()) == record


@pytest.mark.parametrize(
    ("version", "bound"),
    [
        (1, "0.03"),
        (1, "l2 much"),
        (1, "l1 3"),
        (1, {"norm": "linf", "value": "8/255"}),
        (2, "8/255"),
        (2, {"norm": "linf", "value": "0.03"}),
        (2, {"norm": "linf", "value": 0.03}),
        (2, {"norm": "l2", "value": "much"}),
        (2, {"norm": "l2", "value": None}),
        (2, {"norm": "none", "value": 3}),
        (2, {"norm": "l1", "value": 3}),
    ],
)
def test_a_bound_that_is_not_of_its_norm_is_refused(version: int, bound: Any) -> None:
    raw = msgspec.to_builtins(RECORD) | {"format": version, "rho_u": bound}
    with pytest.raises(ValueError, match="rho_u"):
        Record.from_json(json.dumps(raw).encode())


def test_a_record_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="surprise"):
        Record.from_json(json.dumps(msgspec.to_builtins(RECORD) | {"surprise": 1}).encode())


def test_a_record_cannot_hold_what_json_cannot() -> None:
    with pytest.raises(ValueError, match="JSON"):
        msgspec.structs.replace(RECORD, test_accuracy=float("nan")).to_json()


def test_a_record_under_another_name_is_refused(folder: ResultsFolder) -> None:
    folder.write_record(RECORD)
    path = folder.path / "cells" / f"{RECORD.key}.json"
    path.rename(path.with_name(f"{'0' * 32}.json"))
    with pytest.raises(UserError, match=RECORD.key):
        list(folder.records())
