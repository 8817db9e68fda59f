"""Protected pictures on disk: which are written, and what a resumed command finds."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.protecting.pictures import SUFFIXES, Format
from unlearnable_bench.protecting.sources import Sources
from unlearnable_bench.storage.disk import bytes_text
from unlearnable_bench.storage.files import clear_leftovers, read_bytes, replacing, write_text

_STATE = "protection.json"
_WRITTEN = "written.jsonl"
_KIND = "unlearnable-bench protection"


def output_names(sources: Sources, form: Format) -> list[str]:
    """Return the name of each picture below the output folder: its own, with the new ending.

    Raises:
        UserError: two pictures would get one name.
    """
    owners: dict[str, str] = {}
    names = []
    for picture in sources.pictures:
        name = str(Path(picture.name).with_suffix(SUFFIXES[form]).as_posix())
        # Folders of macOS do not distinguish cases.
        other = owners.setdefault(name.casefold(), picture.name)
        if other != picture.name:
            raise UserError(
                f"{other} and {picture.name} of {sources.root} would both become {name}; rename "
                "one of them"
            )
        names.append(name)
    return names


def report_folder(out: Path) -> Path:
    """Return the folder of the report, next to the output folder."""
    whole = out.absolute()
    return whole.with_name(f"{whole.name}-report")


def check_places(root: Path, out: Path) -> None:
    """Refuse an output folder that is the input folder, lies in it or contains it.

    Raises:
        UserError: names both folders.
    """
    source, target = root.resolve(), out.resolve()
    if source == target:
        relation = "is the folder of the originals"
    elif source in target.parents:
        relation = f"lies in {root}, the folder of the originals"
    elif target in source.parents:
        relation = f"contains {root}, the folder of the originals"
    else:
        return
    raise UserError(f"--out {out} {relation}, which stays as it is; give a folder elsewhere")


@dataclass
class Output:
    """The output folder, and the state of its pictures in the report's folder.

    Attributes:
        out: the output folder.
        report: the folder of the report.
        names: name of each picture below `out`.
        identity: what determines the pictures, for JSON.
        written: SHA-256 of the pictures that are written, by name.
    """

    out: Path
    report: Path
    names: list[str]
    identity: Mapping[str, Any]
    written: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a folder with files of others, or of this command with other settings.

        Raises:
            UserError: names a file or the setting.
        """
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"--out {self.out} is a file; give a folder that does not exist yet")
        state = self._state()
        if state is None:
            for folder in (self.out, self.report):
                first = next(iter(sorted(folder.iterdir())), None) if folder.is_dir() else None
                if first is not None:
                    raise UserError(
                        f"{folder} is not empty (it has {first.name}); give another --out, or an "
                        "empty folder"
                    )
            return
        if state.get("identity") != self.identity:
            differing = [k for k, v in self.identity.items() if state["identity"].get(k) != v]
            how = f"was protected with another {' and '.join(differing) or 'version'}"
            if "pictures" in differing:
                how = "was made from other pictures"
            raise UserError(
                f"{self.out} {how}; give another --out, or remove {self.out} and {self.report}"
            )
        strangers = sorted(self._present() - {*self.names})
        if strangers:
            raise UserError(
                f"{self.out} has {strangers[0]}, which this command did not write; move it "
                "elsewhere, since the folder is to be published"
            )

    def check_room(self, bytes_needed: Mapping[str, int]) -> None:
        """Refuse a disk without room for the pictures that are still to be written.

        Args:
            bytes_needed: largest size of each picture's file, by name.

        Raises:
            UserError: names what is free and what is needed.
        """
        needed = sum(size for name, size in bytes_needed.items() if name not in self.written)
        parents = self.out.absolute().parents
        home = next(one for one in (self.out.absolute(), *parents) if one.exists())
        free = shutil.disk_usage(home).free
        if needed > free:
            raise UserError(
                f"{self.out} needs up to {bytes_text(needed)}, and {bytes_text(free)} are free; "
                f"free {bytes_text(needed - free)} or give --out on another disk"
            )

    def open(self) -> None:
        """Make the folders, or read what an earlier run wrote."""
        for folder in (self.out, self.report):
            folder.mkdir(parents=True, exist_ok=True)
        if self._state() is None:
            state = {"kind": _KIND, "identity": dict(self.identity)}
            write_text(self.report / _STATE, json.dumps(state, indent=1) + "\n")
        for folder in {self.out, *((self.out / name).parent for name in self.names)}:
            clear_leftovers(folder)

    def find_written(self) -> None:
        """Find the pictures that an earlier run wrote and nobody changed since."""
        try:
            lines = read_bytes(self.report / _WRITTEN).decode(errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                name, digest = json.loads(line)
            except ValueError:  # cut off by the death of the process
                continue
            if name in self.names and (self.out / name).is_file():
                self.written[name] = digest
        for name, digest in list(self.written.items()):
            if sha256(self.out / name) != digest:
                del self.written[name]

    def note(self, name: str) -> None:
        """Note that a picture is written."""
        self.written[name] = sha256(self.out / name)
        with (self.report / _WRITTEN).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, self.written[name]]) + "\n")

    def _state(self) -> dict[str, Any] | None:
        path = self.report / _STATE
        try:
            state: Any = json.loads(read_bytes(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged; remove {self.out} and {self.report}") from error
        known = isinstance(state, dict) and state.get("kind") == _KIND
        return state if known and isinstance(state.get("identity"), dict) else None

    def _present(self) -> set[str]:
        return {
            (Path(where) / name).relative_to(self.out).as_posix()
            for where, _, names in os.walk(self.out)
            for name in names
            if not Path(where).name.endswith(".tmp")  # of a process that was killed
        }


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(texts: Iterable[str]) -> str:
    """Return the SHA-256 of several texts."""
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()


__all__ = ["Output", "check_places", "digest_of", "output_names", "replacing", "report_folder"]
