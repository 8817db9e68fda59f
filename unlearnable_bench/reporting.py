"""The command `ubench report`: loads and selects cells, prints or writes what is made of them."""

import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.frame import load_records, select
from unlearnable_bench.results.rendering import (
    FIGURE_FORMATS,
    TABLE_FORMATS,
    make_piece,
    pieces,
    write,
)
from unlearnable_bench.results.store import ResultsFolder


def load(
    folders: Sequence[Path], plan: str, selection: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return the cells of folders that were asked for, and say on stderr what is not finished.

    Raises:
        UserError: no results folder, no such plan, or a selected value that no cell has.
    """
    keys: list[str] | None = None
    if plan:
        plans = {
            key: found for path in folders for key, found in ResultsFolder(path).plans().items()
        }
        if plan not in plans:
            raise unknown("plan", plan, plans)
        keys = plans[plan]["cells"]
    frame = load_records(folders, keys, unfinished=True)
    gc.freeze()  # what was loaded stays: collecting garbage would look through all of it each time
    if frame.attrs["differing"]:
        count = frame.attrs["differing"]
        _say(f"{count} cells have another accuracy in another folder; the first folder's counts")
    frame = select(frame, **selection)
    _warn_unfinished(frame, keys)
    return frame


def _warn_unfinished(frame: pd.DataFrame, keys: Sequence[str] | None) -> None:
    if keys is not None:
        # A plan of before 0.2 names no labels: what is missing of it is in no row.
        done = 0 if frame.empty else int((frame["status"] == "done").sum())
        if done < len(keys):
            missing = f"{len(keys) - done} of the plan's {len(keys)} cells"
            _say(f"{missing} are not finished: run its command again")
    if frame.empty:
        return
    failed = frame[frame["status"] == "failed"]
    if len(failed):
        first = failed.iloc[0]
        cell = f"{first['attack']}, rho_a {first['rho_a']}, seed {first['seed']}"
        _say(f"{len(failed)} cells failed; the first, {cell}: {first['reason']}")


def write_one(
    frame: pd.DataFrame,
    report: str | None,
    form: str | None,
    output: Path | None,
    settings: Mapping[str, str],
) -> None:
    """Print one report, or write it to a file.

    Raises:
        UserError: as `make_piece`; a figure for which no file is named; a file that cannot be
            written, and then the old one is left as it is.
    """
    usual = None
    if output is not None:
        _refuse_no_file(output)
        usual = _form_of(output, report)
        if report is None and form is None and output.suffix in (".csv", ".json", ".html"):
            form = output.suffix[1:]  # the reports of these names
    piece = make_piece(frame, report, form, settings, usual)
    if output is not None:
        if isinstance(piece.content, bytes) and output.suffix[1:].lower() != piece.suffix:
            ending = f"end the name in .{piece.suffix}, or choose --format"
            raise UserError(f"--output {output}: this is a {piece.suffix} file; {ending}")
        _write(output, piece.content)
    elif isinstance(piece.content, bytes):
        raise UserError(f"a {piece.suffix} file is not printed: name it by --output FILE")
    else:
        sys.stdout.write(piece.content)


def write_all(frame: pd.DataFrame, folder: Path) -> None:
    """Write every report in every format into a folder; say what was left out, and why.

    Raises:
        UserError: the folder is a file, or a file cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: is a file; with --all it is a folder")
    _refuse_results(folder)
    written = 0
    for name, piece in pieces(frame):
        if isinstance(piece, UserError):
            _say(f"left out {name}: {piece}")
            continue
        _write(folder / name, piece.content)
        written += 1
    sys.stdout.write(f"{written} files in {folder}\n")


def _refuse_results(output: Path) -> None:
    """Refuse to write among records: no report is worth one."""
    for parent in (output.absolute(), *output.absolute().parents):
        if (parent / "ubench.json").is_file():
            raise UserError(f"--output {output}: is in the results folder {parent}; choose another")


def _refuse_no_file(output: Path) -> None:
    """Refuse what cannot be a file before anything is computed."""
    _refuse_results(output)
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder; name a file, or write all with --all")
    parent = output.absolute().parent
    if not parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {parent}; make it, or name another")


def _form_of(output: Path, report: str | None) -> str | None:
    """Return the format that a file's ending stands for, or None.

    Raises:
        UserError: a figure's ending, and no report that is a figure.
    """
    ending = output.suffix[1:]
    if report is None and ending in FIGURE_FORMATS:
        raise UserError(f"--output {output}: name a figure by --report, such as radius-curves")
    forms = {suffix: form for form, suffix in TABLE_FORMATS.items()}
    return ending if ending in FIGURE_FORMATS else forms.get(ending)


def _write(path: Path, content: str | bytes) -> None:
    try:
        write(path, content)
    except OSError as error:
        raise UserError(f"--output {path}: {error.strerror or error}") from error


def _say(text: str) -> None:
    sys.stderr.write(f"ubench: {printable(text)}\n")
