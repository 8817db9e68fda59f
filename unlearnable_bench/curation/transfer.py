"""Archives of results folders, and merging of folders and archives, with checks.

An archive is a tar file of the folder's files and `manifest.json`, the SHA-256 of each. What is
read from one is chosen by the form of its name, so that it cannot write anywhere else.
"""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from msgspec import structs

from unlearnable_bench.curation.contents import KINDS, MEASUREMENTS, RECORDS, check, files
from unlearnable_bench.errors import UserError
from unlearnable_bench.results import marker
from unlearnable_bench.results.measurements import Measurement
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS
from unlearnable_bench.results.store import ResultsFolder, left_out
from unlearnable_bench.storage import seal
from unlearnable_bench.storage.damage import DamagedError, note, set_aside
from unlearnable_bench.storage.files import replacing, scratch

MANIFEST = "manifest.json"
_MODES = {".tar": "", ".gz": "gz", ".tgz": "gz", ".xz": "xz"}
_RESULTS = ("cells", MEASURED_ROBUSTNESS.kind)  # whose failures are kept until they succeed
_CHUNK = 1 << 20


def archive(path: Path, file: Path, *, records_only: bool = False) -> dict[str, int]:
    """Write the sound files of a results folder to an archive, and read it again as a check.

    Damaged files are noted (`damage.note`) and left out.

    Args:
        path: the results folder.
        file: the archive, which must not exist; its ending chooses the compression.
        records_only: leave out poisons, networks and samples.

    Returns:
        Number of files by kind.

    Raises:
        UserError: not a results folder, a file that exists, an unknown ending, or an archive that
            cannot be read back.
        DiskError: the disk is full.
    """
    folder = ResultsFolder(path)
    if file.suffix not in _MODES:
        endings = ", ".join(_MODES)
        raise UserError(
            f"{file}: the ending of an archive is one of {endings}, e.g. results.tar.gz"
        )
    if file.exists():
        raise UserError(f"{file} exists already; choose another name or remove it")
    if not file.absolute().parent.is_dir():
        raise UserError(f"{file}: no folder {file.absolute().parent}; make it first")
    chosen = list(_sound(folder, RECORDS if records_only else tuple(KINDS)))
    hashes = {f"{kind}/{one.name}": digest(one) for kind, one in chosen}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    mode: Any = f"w:{_MODES[file.suffix]}"
    manifest = seal.sealed_json({"created": created, "files": hashes}).encode()
    try:
        with replacing(file) as temporary:
            with tarfile.open(temporary, mode) as tar:
                _add(tar, MANIFEST, manifest)
                _add(tar, marker.NAME, marker.TEXT.encode())
                for kind, one in chosen:
                    tar.add(one, f"{kind}/{one.name}", recursive=False, filter=_anonymous)
            _check_archive(temporary, hashes)
    except OSError as error:
        if error.filename is None:
            raise
        raise UserError(f"{file} cannot be written ({error.strerror}); choose another") from error
    counts: dict[str, int] = {}
    for kind, _ in chosen:
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _sound(folder: ResultsFolder, kinds: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yield the files that pass their checks; the others are noted."""
    for kind, path in files(folder.path, kinds):
        try:
            check(folder, kind, path)
        except UserError as error:
            note(left_out(error))
            continue
        if path.exists():
            yield kind, path


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, BytesIO(content))


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _check_archive(path: Path, hashes: dict[str, str]) -> None:
    """Compare what was written with what was meant to be, in case a file changed meanwhile."""
    with tarfile.open(path) as tar:
        for entry in tar:
            wanted = hashes.get(entry.name)
            content = tar.extractfile(entry)
            if wanted and content and _digest(content) != wanted:
                raise UserError(f"{entry.name} changed while it was archived; run it again")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> str:
    sha = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        sha.update(chunk)
    return sha.hexdigest()


@dataclass
class Merged:
    """What a merge did.

    Attributes:
        added: number of files by kind that the target lacked.
        same: number of files whose result the target has.
        differing: a line for each result that differs from the target's, which is unchanged.
    """

    added: dict[str, int] = field(default_factory=dict)
    same: int = 0
    differing: list[str] = field(default_factory=list)


def merge(target: Path, source: Path) -> Merged:
    """Add the results of another folder or archive to a results folder.

    Each file is checked first; damaged ones are noted (`damage.note`) and left out. Nothing in the
    target is overwritten, except damaged files, which are set aside.

    Args:
        target: the results folder, made if it does not exist.
        source: another results folder, which is not changed, or a file of `archive`.

    Raises:
        UserError: the source is neither, or is the target.
        DiskError: the disk is full.
    """
    if source.is_dir() and target.exists() and source.samefile(target):
        raise UserError(f"{source} is the folder itself; give another folder or an archive")
    if source.is_dir():
        found = ResultsFolder(source)
        return _merge(ResultsFolder(target, create=True), found)
    if not source.exists():
        raise UserError(f"no folder or archive {source}; give one of ubench run or ubench archive")
    is_new = not target.exists()
    into = ResultsFolder(target, create=True)
    try:
        with _unpacked(source, target) as unpacked:
            return _merge(into, ResultsFolder(unpacked))
    except UserError:
        if is_new and {path for path in target.rglob("*") if path.is_file()} == {
            target / marker.NAME
        }:
            shutil.rmtree(target)
        raise


def _merge(target: ResultsFolder, source: ResultsFolder) -> Merged:
    merged = Merged()
    # Poisons first: a record whose poison is not there yet would have it made again.
    order = ("poisons", *(kind for kind in KINDS if kind != "poisons"))
    for kind, path in _sound(source, order):
        place = target.path / kind / path.name
        line = _difference(target, source, kind, path.stem) if place.exists() else None
        if line is None and not place.exists():
            if kind == "failures" and _has_result(target, path.stem):
                continue
            _copy(path, place)
            if kind in _RESULTS:
                target.clear_failure(path.stem)
            merged.added[kind] = merged.added.get(kind, 0) + 1
        elif line:
            merged.differing.append(line)
        else:
            merged.same += 1
    return merged


def _has_result(folder: ResultsFolder, key: str) -> bool:
    """Return whether a cell or measurement, which may have failed before, has succeeded."""
    return folder.record(key) is not None or MEASURED_ROBUSTNESS.has(folder.path, key)


def _difference(target: ResultsFolder, source: ResultsFolder, kind: str, key: str) -> str | None:
    """Compare the results of one key; a damaged one of the target is set aside.

    Returns:
        A line about the difference; None if they are the same, or the target's was set aside.
    """
    place = target.path / kind / (f"{key}.json" if kind in RECORDS else f"{key}.safetensors")
    try:
        check(target, kind, place)
    except DamagedError as error:
        set_aside(place, error.reason, "the other folder's takes its place")
        return None
    if kind == "cells":
        ours, theirs = target.record(key), source.record(key)
        return _records_differ(place, ours, theirs) if ours and theirs else None
    if kind == "poisons":
        one, other = target.poison(key), source.poison(key)
        if one and other and one[1]["sha256"] != other[1]["sha256"]:
            return f"{place} has other pixels than that of {source.path}; it is unchanged"
    if kind in MEASUREMENTS:
        mine, others = (MEASUREMENTS[kind].read(one.path, key) for one in (target, source))
        if mine and others and _measured(mine) != _measured(others):
            return f"{place} has other figures than that of {source.path}; it is unchanged"
    if kind == "plans":
        _update_plan(target, source, key)
    return None


def _records_differ(place: Path, ours: Record, theirs: Record) -> str | None:
    figures = [(one.test_accuracy, one.epoch_accuracy) for one in (ours, theirs)]
    if figures[0] == figures[1]:
        if ours.poison["sha256"] == theirs.poison["sha256"]:
            return None
        return f"{place} was trained on other pixels than the other; it is unchanged"
    return (
        f"{place} has {ours.test_accuracy:.2f} %, the other {theirs.test_accuracy:.2f} % "
        f"({ours.environment['device']}, {theirs.environment['device']}); it is unchanged"
    )


def _measured(one: Measurement) -> dict[str, Any]:
    """Return a measurement without what differs each time it is made."""
    fields = structs.asdict(one)
    return {name: fields[name] for name in fields.keys() - {"seconds", "environment", "created"}}


def _update_plan(target: ResultsFolder, source: ResultsFolder, key: str) -> None:
    """Let a plan be last run when it was last run in either folder."""
    ours, theirs = (_last_run(folder.check_plan(key) or {}) for folder in (target, source))
    if theirs > ours:
        target.write_plan(key, {"cells": [], "created": theirs})


def _last_run(plan: dict[str, Any]) -> str:
    return str(plan.get("last_run") or plan.get("created", ""))


def _copy(path: Path, place: Path) -> None:
    with replacing(place, size=path.stat().st_size) as temporary:
        shutil.copyfile(path, temporary)


@contextmanager
def _unpacked(file: Path, target: Path) -> Iterator[Path]:
    """Unpack an archive's results into a temporary folder within the target.

    Raises:
        UserError: it is not an archive of results, or it is cut off.
    """
    with scratch(target, "merge") as place:
        try:
            with tarfile.open(file) as tar:
                found = set(_unpack(tar, place))
        except (OSError, EOFError, tarfile.TarError) as error:
            raise UserError(
                f"{file} cannot be read as an archive ({error}); make it with ubench archive"
            ) from error
        if not (place / marker.NAME).exists():
            raise UserError(f"{file} holds no results folder; make it with ubench archive")
        _note_missing(file, place, found)
        yield place


def _unpack(tar: tarfile.TarFile, place: Path) -> Iterator[str]:
    """Write the results of an archive; yield the names."""
    for entry in tar:
        kind, _, name = entry.name.partition("/")
        is_result = kind in KINDS and KINDS[kind].fullmatch(name)
        if not entry.isreg() or not (is_result or entry.name in (MANIFEST, marker.NAME)):
            note(f"{entry.name} in the archive is no result; it is left out")
            continue
        content = tar.extractfile(entry)
        assert content is not None  # it is a regular file
        path = place / kind / name if is_result else place / entry.name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
        yield entry.name


def _note_missing(file: Path, place: Path, found: Collection[str]) -> None:
    """Note the files of the manifest that are missing or changed."""
    try:
        manifest = json.loads(seal.unsealed_json((place / MANIFEST).read_bytes())[0])["files"]
    except (OSError, ValueError, KeyError, TypeError):
        note(f"{file} has no sound manifest; whether it is complete is unknown")
        return
    for name, expected in manifest.items():
        if name not in found:
            note(f"{name} is missing in {file}")
        elif digest(place / name) != expected:
            note(f"{name} in {file} is damaged (its content does not match the manifest)")
            (place / name).unlink()
