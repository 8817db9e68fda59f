"""The results folder: cells and poisons, each under the hash of everything that determines it.

Every file is written under a temporary name and renamed, so that it is complete or absent. No
result is ever overwritten. Two folders merge by copying one over the other.

    ubench.json              marks the folder as a results folder
    cells/KEY.json           one record for each finished cell
    poisons/KEY.safetensors  images uint8 [N, H, W, 3] and their metadata
    networks/KEY.safetensors weights of surrogates: trained on clean images, or of the poison KEY
    strips/KEY.safetensors   some images of the poison KEY (`samples.py`)
    noise/KEY.safetensors    a sample of its noise
    robustness/KEY.json      robustness of a poison and its surrogate (`robustness.py`)
    plans/KEY.json           keys and labels of the cells of a command
    failures/KEY.json        why a cell failed; removed once the cell is finished
    work/KEY...              locks and checkpoints of work in progress
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from unlearnable_bench.errors import UserError
from unlearnable_bench.files import locked, replacing, write_text
from unlearnable_bench.images import Pixels
from unlearnable_bench.results.records import Record

_MARKER = "ubench.json"
# The format of the folder, independent of that of its records (`records.FORMAT`).
_MARKER_TEXT = json.dumps({"kind": "unlearnable-bench results", "format": 1}) + "\n"


def _json_files(folder: Path) -> list[str]:
    # Not `._KEY.json`, which macOS writes when it copies to other file systems.
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - a tenth of the time
    return [name for name in sorted(names) if name.endswith(".json") and name[0] != "."]


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
        marker = path / _MARKER
        if not marker.is_file():
            if path.exists() and not path.is_dir():
                raise UserError(f"{path} is a file, not a results folder; give another folder")
            if not create:
                raise UserError(f"{path} is not a results folder; give one made by `ubench run`")
            foreign = path.exists() and any(
                p.suffix != ".tmp" and p.name != ".DS_Store" for p in path.iterdir()
            )
            # Another run may have made the folder in the meantime.
            if foreign and not marker.is_file():
                raise UserError(
                    f"{path} is neither empty nor a results folder; choose another --out"
                )
            write_text(marker, _MARKER_TEXT)
        elif marker.read_bytes() != _MARKER_TEXT.encode():
            raise UserError(f"{marker} is from another version of ubench; give another folder")

    def record(self, key: str) -> Record | None:
        """Return the record of a cell, or None if it is not finished.

        Raises:
            UserError: the record is damaged; it is not changed.
        """
        path = os.path.join(self.path, "cells", f"{key}.json")  # noqa: PTH118 - faster for thousands
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                record = Record.from_json(file.read())
            if not record.key == key == record.address():
                keys = f"its name is {key}, its key {record.key}"
                raise ValueError(f"{keys}, the hash of its identity {record.address()}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(Path(path), error) from error
        except ValueError as error:
            raise _damaged(Path(path), error) from error
        return record

    def records(self) -> Iterator[Record]:
        """Yield every record of the folder."""
        for name in _json_files(self.path / "cells"):
            record = self.record(name.removesuffix(".json"))
            if record is not None:
                yield record

    def write_record(self, record: Record) -> None:
        """Write the record of a finished cell unless it exists.

        Raises:
            ValueError: the record could not be read back, and why.
        """
        path, text = self.path / "cells" / f"{record.key}.json", record.to_json()
        Record.from_json(text.encode())
        if not path.exists():
            write_text(path, text)

    def write_failure(self, key: str, labels: dict[str, Any], reason: str, trace: str) -> None:
        """Write why a cell failed; replaces an earlier failure.

        Args:
            key: key of the cell.
            labels: labels of the cell, as in plans.
            reason: the reason in one line.
            trace: the complete traceback.
        """
        failure = {"key": key, "labels": labels, "reason": reason, "traceback": trace}
        failure["created"] = datetime.now(UTC).isoformat(timespec="microseconds")
        write_text(self._failure_path(key), json.dumps(failure, indent=1) + "\n")

    def clear_failure(self, key: str) -> None:
        """Remove the failure of a cell that is finished now."""
        self._failure_path(key).unlink(missing_ok=True)

    def failures(self) -> dict[str, dict[str, Any]]:
        """Return every failure by the key of its cell.

        Raises:
            UserError: a file is damaged.
        """
        return self._objects("failures", ("reason", "created"))

    def poison(self, key: str) -> tuple[Pixels, dict[str, Any]] | None:
        """Return the images and the metadata of a poison, or None if it is not stored.

        Raises:
            UserError: the file is damaged; it is not changed.
        """
        if not self.has_poison(key):
            return None
        path = self._poison_path(key)
        try:
            with safe_open(path, "np") as file:
                images = file.get_tensor("images")
                metadata = json.loads(file.metadata()["about"])
            if metadata["key"] != key:
                raise ValueError(f"its key is {metadata['key']}")
            if hashlib.sha256(images.data).hexdigest() != metadata["sha256"]:
                raise ValueError("its pixels do not match their SHA-256")
        except OSError as error:
            raise _unreadable(path, error) from error
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error
        return images, metadata

    def has_poison(self, key: str) -> bool:
        """Return whether a poison is stored, without reading it."""
        return self._poison_path(key).exists()

    def write_poison(self, key: str, images: Pixels, metadata: dict[str, Any]) -> None:
        """Write a poison with its metadata unless it exists."""
        if self.has_poison(key):
            return
        tensors = {"images": np.ascontiguousarray(images)}
        with replacing(self._poison_path(key), single_writer=True) as temporary:
            save_file(tensors, temporary, {"about": json.dumps(metadata)})

    def write_plan(self, key: str, plan: dict[str, Any]) -> None:
        """Write the cells of a command unless the plan exists."""
        path = self.path / "plans" / f"{key}.json"
        if not path.exists():
            write_text(path, json.dumps(plan, indent=1) + "\n")

    def plans(self) -> dict[str, dict[str, Any]]:
        """Return every plan by key.

        Raises:
            UserError: a file is damaged.
        """
        return self._objects("plans", ("cells",))

    def _objects(self, name: str, needed: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Return the content of small JSON files by name."""
        found = {}
        for path in (self.path / name / file for file in _json_files(self.path / name)):
            try:
                found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
                for key in needed:
                    found[path.stem][key]
            except OSError as error:
                raise _unreadable(path, error) from error
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path} is damaged ({error}); remove it") from error
        return found

    def checkpoint(self, key: str) -> Path:
        """Return the path of the checkpoint of a cell or poison."""
        return self.path / "work" / f"{key}.safetensors"

    def network(self, key: str) -> Path:
        """Return the path of a surrogate: one trained on clean images, or a poison's own."""
        return self.path / "networks" / f"{key}.safetensors"

    def claim(
        self, key: str, *, wait: bool, tick: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[bool]:
        """Hold the lock of a cell or a poison, as `locked` does."""
        return locked(self.path / "work" / f"{key}.lock", wait=wait, tick=tick)

    def _failure_path(self, key: str) -> Path:
        return self.path / "failures" / f"{key}.json"

    def _poison_path(self, key: str) -> Path:
        return self.path / "poisons" / f"{key}.safetensors"


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged ({error}); move it away and run the command again")


def _unreadable(path: Path, error: OSError) -> UserError:
    reason = error.strerror or error
    return UserError(f"{path} cannot be read ({reason}); check its owner and permissions")
