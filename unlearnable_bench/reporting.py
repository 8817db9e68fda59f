"""The command `ubench report`: loads and selects cells, prints or writes what is made of them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.results.frame import load_records, select
from unlearnable_bench.results.rendering import FIGURE_FORMATS, make_piece, pieces, write
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
    frame = select(load_records(folders, keys, unfinished=True), **selection)
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
        UserError: as `make_piece`; a figure for which no file is named.
        OSError: the file cannot be written; the old one is left as it is.
    """
    if form is None and output is not None and output.suffix[1:] in FIGURE_FORMATS:
        form = output.suffix[1:]
    piece = make_piece(frame, report, form, settings)
    if output is not None:
        write(output, piece.content)
    elif isinstance(piece.content, bytes):
        raise UserError(f"a {piece.suffix} file is not printed: name it by --output FILE")
    else:
        sys.stdout.write(piece.content)


def write_all(frame: pd.DataFrame, folder: Path) -> None:
    """Write every report in every format into a folder; say what was left out, and why.

    Raises:
        UserError: the folder is a file.
        OSError: a file cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: is a file; with --all it is a folder")
    written = 0
    for name, piece in pieces(frame):
        if isinstance(piece, UserError):
            _say(f"left out {name}: {piece}")
            continue
        write(folder / name, piece.content)
        written += 1
    sys.stdout.write(f"{written} files in {folder}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"ubench: {' '.join(text.split())}\n")
