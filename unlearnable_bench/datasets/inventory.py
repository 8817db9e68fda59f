"""What a folder of images holds, and what of it is left out."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from unlearnable_bench.datasets.decoding import frames
from unlearnable_bench.datasets.notices import notice
from unlearnable_bench.errors import UserError

ENDINGS = {
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
}
_ANIMATED = {".gif", ".webp", ".tif", ".tiff"}
# Folders that operating systems and servers add; their names do not begin with a dot.
_SYSTEM = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
_SHOWN = 3  # names in a line; the number counts all


class Inventory:
    """The class folders and image files below a folder.

    Nothing is left out silently: `report` prints what and how many. Hidden are names that begin
    with a dot (`.ipynb_checkpoints`, `._1.png`) and folders of the system (`__MACOSX`).
    """

    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self._root = root
        self._notes: dict[tuple[str, str], list[str]] = defaultdict(list)

    def leave_out(self, kind: str, plural: str, paths: Iterable[Path]) -> None:
        """Count paths that are not used, under a noun such as "hidden file"."""
        for path in paths:
            self._notes[kind, plural].append(str(path.relative_to(self._root)))

    def report(self, *, missing: Iterable[str] = ()) -> None:
        """Print one line on stderr if anything was left out or is missing.

        Args:
            missing: classes of which no test image exists.
        """
        texts = [_counted(*kind, paths) for kind, paths in sorted(self._notes.items())]
        parts = [f"left out {', '.join(texts)}"] if texts else []
        lacking = list(missing)
        if lacking:
            parts.append(f"no test images of {_counted('class', 'classes', lacking)}")
        if parts:
            notice(f"{self._name}: {'; '.join(parts)}")

    def folders(self, folder: Path) -> list[Path]:
        """Return the folders in a folder, sorted, without hidden ones."""
        return self._entries(folder)[0]

    def classes(self, folder: Path) -> list[str]:
        """Return the names of the class folders in a folder, sorted; none if it is missing."""
        folders, files = self._entries(folder)
        self.leave_out("file outside of class folders", "files outside of class folders", files)
        return [path.name for path in folders]

    def pictures(self, folder: Path) -> list[Path]:
        """Return the image files of a folder, sorted by name; none if it is missing.

        Raises:
            UserError: there are files, but no image is read.
        """
        folders, files = self._entries(folder)
        chosen = [file for file in files if file.suffix.lower() in ENDINGS]
        others = [file for file in files if file.suffix.lower() not in ENDINGS]
        nested = [
            Path(where) / file
            for inner in folders
            for where, _, names in os.walk(inner)
            for file in sorted(names)
            if not _hidden(file)
        ]
        if not chosen and nested:
            raise UserError(
                f"{folder} has no images but {len(nested)} files in folders of its own, such as "
                f"{nested[0]}; move them up, to {folder}/"
            )
        if not chosen and others:
            raise UserError(
                f"{folder} has no image but {_counted('file', 'files', map(_name, others))}; "
                f"convert them to .png, or remove the folder; read are {' '.join(sorted(ENDINGS))}"
            )
        self.leave_out("file that is not an image", "files that are not images", others)
        self.leave_out("file in a nested folder", "files in nested folders", nested)
        animated = [f for f in chosen if f.suffix.lower() in _ANIMATED and frames(f) > 1]
        self.leave_out("file's later frames", "files' later frames", animated)
        return chosen

    def _entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the folders and the files in a folder, sorted, without hidden ones."""
        # Of 130,000 files scandir knows the kind; Path would ask the disk for each.
        found: list[os.DirEntry[str]] = []
        if folder.is_dir():
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        folders = [folder / entry.name for entry in found if entry.is_dir()]
        others = [folder / entry.name for entry in found if not entry.is_dir()]
        # A FIFO would wait for a writer; a broken link is read, and refused by name.
        special = [
            folder / entry.name
            for entry in found
            if not (entry.is_dir() or entry.is_file() or entry.is_symlink() or _hidden(entry.name))
        ]
        self.leave_out("hidden folder", "hidden folders", (p for p in folders if _hidden(p.name)))
        self.leave_out("hidden file", "hidden files", (p for p in others if _hidden(p.name)))
        self.leave_out("special file", "special files", special)
        return (
            [path for path in folders if not _hidden(path.name)],
            [path for path in others if not _hidden(path.name) and path not in special],
        )


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM


def _name(path: Path) -> str:
    return path.name


def _counted(one: str, several: str, names: Iterable[str]) -> str:
    """Return `2 hidden files (a, b)` with the first names only."""
    every = list(names)
    shown = ", ".join([*every[:_SHOWN], *(["..."] if len(every) > _SHOWN else [])])
    return f"{len(every)} {one if len(every) == 1 else several} ({shown})"
