"""The results folder: cells and poisons, each under the hash of everything that determines it.

Every file is written under a temporary name and renamed, so that it is complete or absent, and
holds a checksum of all of it (`storage/seal.py`). No result is ever overwritten. Two folders merge
by copying one over the other.

    ubench.json              marks the folder as a results folder
    cells/KEY.json           one record for each finished cell
    poisons/KEY.safetensors  images uint8 [N, H, W, 3] and their metadata
    networks/KEY.safetensors weights of surrogates: trained on clean images, or of the poison KEY
    learners/KEY.safetensors weights of the learner of the cell KEY, if learners are kept
    strips/KEY.safetensors   some images of the poison KEY (`samples.py`)
    noise/KEY.safetensors    a sample of its noise
    robustness/KEY.json      robustness of a poison and its surrogate (`robustness.py`)
    autoattack/KEY.json      robust accuracy of a kept learner (`autoattack.py`)
    detection/KEY.json       how well a network recognises a poison (`detection.py`)
    plans/KEY.json           keys and labels of the cells of a command, and its last run
    failures/KEY.json        why a cell failed; removed once the cell is finished
    work/KEY...              locks and checkpoints of work in progress
    jobs/KEY/                scripts and logs of batch jobs
    */damaged/               files that failed their checks
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Pixels
from unlearnable_bench.results import marker, opening, presence
from unlearnable_bench.results.records import NewerFormatError, Record
from unlearnable_bench.storage import seal
from unlearnable_bench.storage.arrays import read_pixels
from unlearnable_bench.storage.damage import DamagedError, note, set_aside, unreadable
from unlearnable_bench.storage.disk import DiskError
from unlearnable_bench.storage.files import locked, read_bytes, replacing, write_text

_KEY = re.compile(r"[0-9a-f]{32}")


def _json_files(folder: Path) -> list[str]:
    # Not `._KEY.json`, which macOS writes when it copies to other file systems.
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - a tenth of the time
    return [name for name in sorted(names) if name.endswith(".json") and name[0] != "."]


_PLAN = ("cells",)
_FAILURE = ("reason", "created")


class ResultsFolder:
    """A results folder on disk.

    Args:
        path: the folder.
        create: make it if it does not exist or is empty.

    Raises:
        UserError: the path is not a results folder (and, with `create`, not empty).
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        opening.open_folder(path, self._has_record, create=create)

    @classmethod
    def if_made(cls, path: Path) -> "ResultsFolder | None":
        """Return the results folder at a path, or None if a run would make it.

        Raises:
            UserError: something else is there.
        """
        if marker.is_marked(path) or (path.exists() and not path.is_dir()):
            return cls(path)
        if not opening.has_content(path):
            return None
        try:
            return cls(path)
        except UserError:
            raise opening.refusal(path) from None

    def _has_record(self) -> bool:
        """Return whether the folder holds a sound record."""
        for name in _json_files(self.path / "cells"):
            with suppress(UserError):  # damaged
                if self.record(name.removesuffix(".json")):
                    return True
        return False

    def wait_until_present(self, tick: Callable[[], None] = lambda: None) -> None:
        """Wait if the folder has disappeared since it was opened.

        Args:
            tick: called five times a second; it ends the wait by raising.

        Raises:
            FolderGoneError: it is not back after 5 minutes.
        """
        presence.wait_for(self.path, tick)

    def record(self, key: str) -> Record | None:
        """Return the record of a cell, or None if it is not finished.

        Raises:
            DamagedError: the record is damaged; it is not changed.
            UserError: it cannot be read.
        """
        path = os.path.join(self.path, "cells", f"{key}.json")  # noqa: PTH118 - faster for thousands
        try:
            record = Record.from_json(read_bytes(path))
            if not record.key == key == record.address():
                keys = f"its name is {key}, its key {record.key}"
                raise ValueError(f"{keys}, the hash of its identity {record.address()}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(Path(path), error) from error
        except NewerFormatError as error:
            raise UserError(f"{path} {error}; pip install -U unlearnable-bench") from error
        except ValueError as error:
            raise DamagedError(Path(path), error) from error
        return record

    def records(self) -> Iterator[Record]:
        """Yield every record of the folder.

        Raises:
            UserError: a file in `cells` that is damaged, or is not a record.
        """
        for name in _json_files(self.path / "cells"):
            record = self._listed(name.removesuffix(".json"))
            if record is not None:
                yield record

    def _listed(self, key: str) -> Record | None:
        """Return a record, which is not taken for missing because the folder has disappeared."""
        record = self.record(key)
        if record is None and not os.path.isdir(self.path / "cells"):  # noqa: PTH112 - errors are a no
            self.wait_until_present()
            record = self.record(key)
        return record

    def sound_records(self, keys: Collection[str] | None = None) -> Iterator[Record]:
        """Yield every record that can be read; the others are noted (`damage.note`).

        Args:
            keys: keys of the records; None: all of the folder.

        Raises:
            FolderGoneError: the folder has disappeared and is not back after 5 minutes.
        """
        folder = self.path / "cells"
        if keys is None:
            keys = [name.removesuffix(".json") for name in _json_files(folder)]
        for key in keys:
            try:
                record = self._listed(key)
            except presence.FolderGoneError:
                raise
            except UserError as error:
                path = folder / f"{key}.json"
                foreign = isinstance(error, DamagedError) and not _KEY.fullmatch(key)
                note(f"{path} is no record; it is left out" if foreign else left_out(error))
                continue
            if record is not None:
                yield record

    def settle(self, key: str) -> bool:
        """Return whether a cell is finished; a damaged record is set aside. Needs the claim.

        Raises:
            UserError: the record cannot be read or moved.
        """
        try:
            return self.record(key) is not None
        except DamagedError as error:
            set_aside(error.path, error.reason, "its cell is computed again")
            return False

    def write_record(self, record: Record) -> None:
        """Write the record of a finished cell unless it exists.

        Raises:
            ValueError: the record could not be read back, and why.
        """
        path, text = self.path / "cells" / f"{record.key}.json", record.to_json()
        Record.from_json(text.encode())
        self.wait_until_present()
        if not path.exists():
            write_text(path, text)

    def write_failure(
        self, key: str, labels: dict[str, Any], reason: str, trace: str, job: str = ""
    ) -> None:
        """Write why a cell failed; replaces an earlier failure.

        Args:
            key: key of the cell.
            labels: labels of the cell, as in plans.
            reason: the reason in one line.
            trace: the complete traceback.
            job: identifies the run of several workers in which it failed, if any.
        """
        failure = {"key": key, "labels": labels, "reason": reason, "traceback": trace}
        if job:
            failure["job"] = job
        failure["created"] = datetime.now(UTC).isoformat(timespec="microseconds")
        self.wait_until_present()
        write_text(self._failure_path(key), seal.sealed_json(failure))

    def clear_failure(self, key: str) -> None:
        """Remove the failure of a cell that is finished now."""
        self._failure_path(key).unlink(missing_ok=True)

    def failures(self, *, lenient: bool = False) -> dict[str, dict[str, Any]]:
        """Return every failure by the key of its cell.

        Args:
            lenient: note damaged files and leave them out.

        Raises:
            UserError: a file is damaged.
        """
        return self._objects("failures", _FAILURE, lenient=lenient)

    def check_failure(self, key: str) -> dict[str, Any]:
        """Return the failure of a cell.

        Raises:
            UserError: it is damaged or cannot be read.
        """
        return _read_object(self._failure_path(key), _FAILURE)

    def poison(self, key: str) -> tuple[Pixels, dict[str, Any]] | None:
        """Return the images and the metadata of a poison, or None if it is not stored.

        Raises:
            DamagedError: the file is damaged; it is not changed.
            UserError: it cannot be read.
        """
        if not self.has_poison(key):
            return None
        path = self.poison_path(key)
        try:
            seal.check_file(path)
            with safe_open(path, "np") as file:
                metadata = json.loads(file.metadata()["about"])
            images = read_pixels(path, "images")
            if metadata["key"] != key:
                raise ValueError(f"its key is {metadata['key']}")
            if hashlib.sha256(images.data).hexdigest() != metadata["sha256"]:
                raise ValueError("its pixels do not match their SHA-256")
        except OSError as error:
            raise unreadable(path, error) from error
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(path, error) from error
        return images, metadata

    def has_poison(self, key: str) -> bool:
        """Return whether a poison is stored, without reading it."""
        return self.poison_path(key).exists()

    def write_poison(self, key: str, images: Pixels, metadata: dict[str, Any]) -> None:
        """Write a poison with its metadata unless it exists."""
        if self.has_poison(key):
            return
        self.wait_until_present()
        tensors = {"images": np.ascontiguousarray(images)}
        path = self.poison_path(key)
        with replacing(path, size=images.nbytes, single_writer=True) as temporary:
            about = {"about": json.dumps(metadata), "checksum": seal.PLACEHOLDER}
            save_file(tensors, temporary, about)
            seal.seal_file(temporary)

    def write_plan(self, key: str, plan: dict[str, Any]) -> None:
        """Write the cells of a command; a damaged plan is set aside.

        An existing plan keeps its content, and its `last_run` becomes the new one's `created`:
        reports tell by it which of several versions of a plugin was run last.
        """
        path = self.path / "plans" / f"{key}.json"
        try:
            if path.exists():
                known = _read_object(path, _PLAN)
                if "created" in plan:
                    text = seal.sealed_json(known | {"last_run": plan["created"]})
                    with suppress(OSError, DiskError):  # as on a full disk: nothing is lost
                        write_text(path, text)
                return
        except DamagedError as error:
            set_aside(path, error.reason, "it is written again")
        write_text(path, seal.sealed_json(plan))

    def check_plan(self, key: str) -> dict[str, Any] | None:
        """Return a plan, or None if it does not exist.

        Raises:
            UserError: it is damaged.
        """
        path = self.path / "plans" / f"{key}.json"
        return _read_object(path, _PLAN) if path.exists() else None

    def plans(self, *, lenient: bool = False) -> dict[str, dict[str, Any]]:
        """Return every plan by key.

        Args:
            lenient: note damaged files and leave them out.

        Raises:
            UserError: a file is damaged.
        """
        return self._objects("plans", _PLAN, lenient=lenient)

    def _objects(
        self, name: str, needed: tuple[str, ...], *, lenient: bool
    ) -> dict[str, dict[str, Any]]:
        """Return the content of small JSON files by name."""
        found = {}
        for path in (self.path / name / file for file in _json_files(self.path / name)):
            try:
                found[path.stem] = _read_object(path, needed)
            except UserError as error:
                if not lenient:
                    raise
                note(left_out(error))
        return found

    def checkpoint(self, key: str) -> Path:
        """Return the path of the checkpoint of a cell or poison."""
        return self.path / "work" / f"{key}.safetensors"

    def checkpoints(self, key: str) -> tuple[Path, Path]:
        """Return the paths of the checkpoints of a cell: its own, and that of its preparation."""
        return self.checkpoint(key), self.checkpoint(f"{key}-preparation")

    def forget_checkpoints(self, key: str) -> None:
        """Remove the checkpoints of a finished cell or poison."""
        for path in self.checkpoints(key):
            path.unlink(missing_ok=True)

    def network(self, key: str) -> Path:
        """Return the path of a surrogate: one trained on clean images, or a poison's own."""
        return self.path / "networks" / f"{key}.safetensors"

    def learner(self, key: str) -> Path:
        """Return the path of the trained learner of a cell, which `--keep-learners` keeps."""
        return self.path / "learners" / f"{key}.safetensors"

    def claim(
        self, key: str, *, wait: bool, tick: Callable[[], None] = lambda: None, what: str = ""
    ) -> AbstractContextManager[bool]:
        """Hold the lock of a cell or a poison, as `locked` does."""
        return locked(self.lock(key), wait=wait, tick=tick, what=what)

    def lock(self, key: str) -> Path:
        """Return the path of the lock of a cell or a poison."""
        return self.path / "work" / f"{key}.lock"

    def _failure_path(self, key: str) -> Path:
        return self.path / "failures" / f"{key}.json"

    def poison_path(self, key: str) -> Path:
        """Return the path of a poison."""
        return self.path / "poisons" / f"{key}.safetensors"


def _read_object(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    """Return the content of a small JSON file.

    Raises:
        UserError: it is damaged or cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads(seal.unsealed_json(read_bytes(path))[0])
        for key in needed:
            found[key]
        if found.get("key", path.stem) != path.stem:
            raise ValueError(f"its key is {found['key']}")
        if not isinstance(found.get("cells", []), list):
            raise TypeError("cells is not a list")
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(path, error, "remove it") from error
    return found


def left_out(error: UserError) -> str:
    """Return the line about a file that a report leaves out."""
    if isinstance(error, DamagedError):
        return f"{error.path} is damaged ({error.reason}); it is left out"
    return f"{error}; it is left out"
