"""Which pictures a folder holds, and the class of each."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unlearnable_bench.datasets.inventory import ENDINGS, Inventory
from unlearnable_bench.errors import UserError
from unlearnable_bench.storage.files import read_bytes

_COLUMNS = ("file", "label")
_SIGNS = {";": "semicolons", "\t": "tabs"}
_SHOWN = 3  # names in a message; its number counts all


@dataclass(frozen=True)
class Source:
    """A picture to protect.

    Attributes:
        file: its path.
        name: its path below the folder, with slashes.
        label: number of its class.
    """

    file: Path
    name: str
    label: int


@dataclass(frozen=True)
class Sources:
    """The pictures of a folder, sorted by class and name.

    Attributes:
        root: the folder.
        pictures: the pictures.
        class_names: a name for each class.
    """

    root: Path
    pictures: tuple[Source, ...]
    class_names: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Return the number of pictures of each class."""
        found = Counter(picture.label for picture in self.pictures)
        return {name: found[label] for label, name in enumerate(self.class_names)}

    def need(self, least: int, why: str) -> None:
        """Refuse a class with fewer pictures than are needed.

        Args:
            least: smallest number of pictures of a class.
            why: what needs them, and how to do without.

        Raises:
            UserError: names the class.
        """
        for name, number in self.counts().items():
            if number < least:
                raise UserError(
                    f"class {name!r} of {self.root} has {_counted(number, 'picture')}, but {why}"
                )


def class_folders(root: Path) -> Sources:
    """Return the pictures of DIR/CLASS/*, sorted by class and file name.

    Raises:
        UserError: not a folder, no pictures, one class, or pictures outside of class folders.
    """
    _check_folder(root)
    inventory = Inventory(str(root), root)
    names = inventory.classes(root)
    found = {name: inventory.pictures(root / name) for name in names}
    outside = [path for path in sorted(root.iterdir()) if _is_picture(path)]
    found = {name: files for name, files in found.items() if files}
    if outside:
        where = (
            "move them into class folders"
            if found
            else "add --labels FILE.csv with the columns file,label, or --person if all show one "
            "person or thing"
        )
        raise UserError(
            f"{root} has {_counted(len(outside), 'picture')} outside of class folders "
            f"({_some(path.name for path in outside)}); {where}"
        )
    if not found:
        raise UserError(f"{root} has no pictures; they go to {root}/CLASS/*.png")
    if len(found) < 2:
        name = next(iter(found))
        raise UserError(
            f"{root} has one class only ({name}); protection needs two classes or more, or add "
            "--person, which trains against generated classes"
        )
    inventory.report()
    pictures = (
        Source(file, f"{name}/{file.name}", label)
        for label, (name, files) in enumerate(found.items())
        for file in files
    )
    return Sources(root, tuple(pictures), tuple(found))


def one_class(root: Path) -> Sources:
    """Return the pictures of one person or thing: those of DIR, or of its only class folder.

    Raises:
        UserError: not a folder, no pictures, or several class folders.
    """
    _check_folder(root)
    inventory = Inventory(str(root), root)
    files = inventory.pictures(root) if _has_pictures(root) else []
    name, prefix = root.resolve().name, ""
    if not files:
        folders = [path for path in inventory.folders(root) if inventory.pictures(path)]
        if len(folders) > 1:
            raise UserError(
                f"--person: {root} has {len(folders)} class folders; omit --person, or give one of "
                f"them: {folders[0]}"
            )
        if not folders:
            raise UserError(f"{root} has no pictures; put those of one person into it")
        name, prefix = folders[0].name, f"{folders[0].name}/"
        files = inventory.pictures(folders[0])
    inventory.report()
    return Sources(root, tuple(Source(file, prefix + file.name, 0) for file in files), (name,))


def labelled(root: Path, table: Path) -> Sources:
    """Return the pictures that a CSV file names, with its columns `file` and `label`.

    Args:
        root: the folder; `file` is a path below it.
        table: the CSV file, UTF-8 with a line of headings.

    Raises:
        UserError: a table that cannot be read, files without label or labels without file.
    """
    _check_folder(root)
    rows = _rows(table)
    present = {
        path.relative_to(root).as_posix()
        for where, folders, names in os.walk(root)
        for path in (Path(where) / name for name in names)
        if _is_picture(path) and not folders.sort()
    }
    missing = [name for name in rows if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"{table} labels {_counted(len(missing), 'file')} that {root} lacks "
            f"({_some(missing)}); its column file holds paths below {root}: mend or remove the rows"
        )
    unlabelled = sorted(present - rows.keys())
    if unlabelled:
        raise UserError(
            f"{table} has no label for {_counted(len(unlabelled), 'picture')} of {root} "
            f"({_some(unlabelled)}); add rows for them, or move them elsewhere"
        )
    names = sorted(set(rows.values()))
    if len(names) < 2:
        raise UserError(
            f"{table} has one class only ({names[0]}); protection needs two classes or more, or "
            "omit --labels and add --person"
        )
    order = sorted(rows, key=lambda file: (rows[file], file))
    pictures = (Source(root / file, file, names.index(rows[file])) for file in order)
    return Sources(root, tuple(pictures), tuple(names))


def _rows(table: Path) -> dict[str, str]:
    """Return the label of each file of a table."""
    try:
        text = read_bytes(table).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"--labels {table}: {reason}; give a CSV file") from error
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    headings = [name.strip() for name in reader.fieldnames or ()]
    if not {*_COLUMNS} <= {*headings}:
        held = ", ".join(headings) or "nothing"
        sign = next((name for mark, name in _SIGNS.items() if mark in held), None)
        step = f"; separate them by commas, not by {sign}" if sign else ""
        raise UserError(
            f"{table} needs the columns file,label in its first line, which holds {held!r}{step}"
        )
    reader.fieldnames = headings
    found: dict[str, str] = {}
    for row in reader:
        file, label = ((row[name] or "").strip() for name in _COLUMNS)
        where = f"{table}, line {reader.line_num}"
        path = PurePosixPath(file)
        if not file or not label:
            raise UserError(f"{where}: file or label is empty; fill it in or remove the line")
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{where}: {file} must be a path below the folder, such as cat/1.png")
        if found.setdefault(path.as_posix(), label) != label:
            raise UserError(f"{where}: {file} has two labels, {found[path.as_posix()]} and {label}")
    if not found:
        raise UserError(f"{table} has no rows below its headings; add a row for each picture")
    return found


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root} {state}; give a folder of pictures")


def _has_pictures(folder: Path) -> bool:
    return any(map(_is_picture, folder.iterdir()))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and not path.is_dir()


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join([*every[:_SHOWN], *(["..."] if len(every) > _SHOWN else [])])
