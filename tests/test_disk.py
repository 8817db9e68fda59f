"""A full disk ends the run with one line that says what to do, and costs no finished cell."""

import dataclasses
import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from commands import arrays
from safetensors import SafetensorError

from unlearnable_bench import api
from unlearnable_bench.errors import UserError
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.results import store
from unlearnable_bench.results.rendering import write
from unlearnable_bench.running import worker
from unlearnable_bench.storage import disk
from unlearnable_bench.storage.files import replacing, write_text

SETTINGS = {"training.epochs": "1", "small-cnn.width": "4", "sem.steps": "1"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    np.savez(tmp_path / "tiny.npz", **arrays())
    data = f"npz:{tmp_path / 'tiny.npz'}"
    return api.make_plan(methods=["random", "sem"], dataset=data, settings=SETTINGS)


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond a size in bytes, as `ulimit -f` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("content", ["y" * 5000, b"z" * 5000])
def test_a_table_that_cannot_be_written_whole_leaves_the_old_one(
    tmp_path: Path, content: str | bytes
) -> None:
    table = tmp_path / "table.md"
    table.write_text("the old table")
    with file_limit(1000), pytest.raises(disk.DiskError) as failed:
        write(table, content)
    assert str(failed.value) == (
        f"{table} (5 kB) cannot be written: files may not be so large; raise the limit (ulimit -f) "
        "and run the same command again"
    )
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "table.md": "the old table"
    }


def test_every_form_of_a_full_disk_is_recognised(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: No space left on device (os error 28)"),
        SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No space" })'),
    ):
        found = disk.disk_error(error, tmp_path / "x", free + 2 * 10**12)
        assert f"{tmp_path}/x (" in str(found)
        assert " GB) cannot be written: no space left on the disk; " in str(found)
        assert "are free; free at least 20" in str(found)
    # Inodes, not bytes, are lacking.
    inodes = disk.disk_error(OSError(errno.ENOSPC, ""), tmp_path / "x", 1)
    assert f"remove files (df -i {tmp_path} counts them)" in str(inodes)
    quota = disk.disk_error(OSError(errno.EDQUOT, ""), tmp_path / "x", 1_234_567)
    assert str(quota) == (
        f"{tmp_path}/x (1.3 MB) cannot be written: your disk quota is used up; remove files and "
        "run the same command again"
    )
    assert disk.disk_error(OSError(errno.EACCES, ""), tmp_path / "x", 1) is None
    assert disk.disk_error(ValueError("(os error 28)")) is None


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), replacing(tmp_path / "x"):
        raise PermissionError


def full(*_args: object) -> None:
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("pack", [1, 2])
def test_the_run_stops_at_the_first_file_that_has_no_room(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: int
) -> None:
    out, attempts = tmp_path / "out", []
    train: Callable[..., object] = worker.train
    monkeypatch.setattr(worker, "train", lambda *args: attempts.append(args) or train(*args))
    with monkeypatch.context() as patch:
        patch.setattr(store, "save_file", full)
        with pytest.raises(disk.DiskError) as failed:
            api.run(plan, out, device="cpu", pack=pack)
    assert f"{out}/poisons/" in str(failed.value)
    # 120 images of 16 x 16 x 3 bytes.
    assert ".safetensors (92.2 kB) cannot be written: no space left on the disk; " in str(
        failed.value
    )
    finished = len(list(out.glob("cells/*.json")))
    assert str(failed.value).endswith(f" ({finished} of 3 cells finished)")
    assert len(attempts) == finished == (2 if pack == 1 else 0)
    assert not list(out.glob("failures/*"))
    assert api.run(plan, out, device="cpu").computed == 3 - finished


def test_a_record_without_room_ends_the_run(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.run(dataclasses.replace(plan, cells=plan.cells[:1]), tmp_path / "out", device="cpu")
    written: list[int] = []

    def only_the_plan_fits(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", only_the_plan_fits)
    with pytest.raises(disk.DiskError, match=r"/cells/.* \(1 of 3 cells finished\)$"):
        api.run(plan, tmp_path / "out", device="cpu")
    assert len(written) == 2


def test_a_small_disk_that_fills(plan: Plan, tmp_path: Path) -> None:
    """The real thing, where a small file system can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", str(place)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(UserError, match=r"no space left on the disk; .* free at least"):
            api.run(plan, place / "out", device="cpu")
        left = {path.name for path in place.rglob("*.tmp")}
        assert left == set()
        done = list(place.glob("out/cells/*.json"))
        assert done
        bigger = ["mount", "-o", "remount,size=4m", str(place)]
        subprocess.run(bigger, check=True)
        assert api.run(plan, place / "out", device="cpu").reused == len(done)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_text_replaces_nothing_before_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("old")
    with file_limit(100), pytest.raises(disk.DiskError):
        write_text(tmp_path / "plan.json", "é" * 100)
    assert (tmp_path / "plan.json").read_text() == "old"
