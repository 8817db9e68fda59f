"""Measurements beside the cells of a results folder: one sealed file each, `KIND/KEY.json`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from unlearnable_bench.errors import UserError
from unlearnable_bench.identity import key_of
from unlearnable_bench.storage.damage import DamagedError, note, set_aside, unreadable
from unlearnable_bench.storage.files import read_bytes, write_text
from unlearnable_bench.storage.seal import sealed_json, unsealed_json

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every kind of measurement holds."""

    format: int = 1
    """Version of this schema."""

    key: str
    """SHA-256 (first 32 digits) of `identity`; also the file's name."""

    identity: dict[str, Any]
    """Everything that determines the result."""

    environment: dict[str, Any]
    """Package versions, device, driver, git revision of the code."""

    created: str
    """When it was measured, UTC, ISO 8601."""

    def check(self) -> None:
        """Compare the other fields with the identity.

        Raises:
            ValueError: they differ, and where.
        """


M = TypeVar("M", bound=Measurement)


class Measurements(Generic[M]):
    """The files of one kind of measurement.

    Args:
        kind: name of their folder in a results folder.
        schema: what a file holds.
    """

    def __init__(self, kind: str, schema: type[M]) -> None:
        self.kind = kind
        self._decoder = msgspec.json.Decoder(schema)

    def path(self, folder: Path, key: str) -> Path:
        """Return the path of a measurement in a results folder."""
        return folder / self.kind / f"{key}.json"

    def read(self, folder: Path, key: str) -> M | None:
        """Return a measurement, or None if the folder does not have it.

        Raises:
            DamagedError: the file is damaged; it is not changed.
            UserError: it cannot be read.
        """
        path = self.path(folder, key)
        try:
            found = self._decoded(read_bytes(path))
            if found.key != key:
                raise ValueError(f"its key is {found.key}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from error
        except RecursionError as error:
            raise DamagedError(path, "it is nested too deep") from error
        except ValueError as error:
            raise DamagedError(path, error) from error
        return found

    def has(self, folder: Path, key: str) -> bool:
        """Return whether a results folder has the measurement, whole."""
        try:
            return self.read(folder, key) is not None
        except UserError:
            return False

    def settle(self, folder: Path, key: str) -> M | None:
        """Return the measurement if it is finished; set a damaged one aside. Needs the claim.

        Raises:
            UserError: it cannot be read or moved.
        """
        try:
            return self.read(folder, key)
        except DamagedError as error:
            set_aside(error.path, error.reason, "it is measured again")
            return None

    def write(self, folder: Path, found: M) -> None:
        """Write a measurement unless it exists.

        Raises:
            ValueError: it could not be read back, and why.
        """
        text = sealed_json(msgspec.to_builtins(found))
        self._decoded(text.encode())
        path = self.path(folder, found.key)
        if not path.exists():
            write_text(path, text)

    def all(self, folder: Path) -> list[M]:
        """Return every measurement of a results folder, the oldest first.

        Those that are damaged or cannot be read are noted (`damage.note`) and left out.
        """
        return sorted(self._sound(folder), key=lambda one: (one.created, one.key))

    def _sound(self, folder: Path) -> Iterator[M]:
        for path in sorted((folder / self.kind).glob("[!.]*.json")):
            try:
                found = self.read(folder, path.stem)
            except DamagedError as error:
                note(f"{path} is damaged ({error.reason}); it is left out")
            except UserError as error:
                note(f"{error}; it is left out")
            else:
                if found:
                    yield found

    def _decoded(self, content: bytes) -> M:
        found = self._decoder.decode(unsealed_json(content)[0])
        if found.format != 1:
            raise ValueError(f"has format {found.format}, this version reads 1")
        if found.key != key_of(found.identity):
            raise ValueError(f"its key is {found.key}")
        found.check()
        return found
