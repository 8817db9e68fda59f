"""`ubench report`: load and select cells, print or write their reports."""

import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.frame import load_records, select
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.rendering import (
    FIGURE_FORMATS,
    TABLE_FORMATS,
    make_piece,
    pieces,
    refuse_no_cells,
    write,
)
from unlearnable_bench.results.replicates import seed_pairs
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.results.versions import earlier


def load(
    folders: Sequence[Path],
    plan: str,
    selection: Mapping[str, Sequence[str]],
    *,
    newest: bool = False,
) -> pd.DataFrame:
    """Return the selected cells of the folders; report unfinished and outdated ones on stderr.

    Args:
        folders: the results folders.
        plan: key of the plan to report; empty: all cells.
        selection: column to wanted values, as for `select`.
        newest: leave out cells that `earlier` finds.

    Raises:
        UserError: not a results folder, an unknown plan, or a selected value that no cell has.
    """
    keys: list[str] | None = None
    if plan:
        plans = {
            key: found
            for path in folders
            for key, found in ResultsFolder(path).plans(lenient=True).items()
        }
        if plan not in plans:
            for path in folders:
                ResultsFolder(path).check_plan(plan)
            raise unknown("plan", plan, plans)
        keys = plans[plan]["cells"]
    frame = load_records(folders, keys, unfinished=True)
    gc.freeze()  # records live until the end: without this, each collection scans them all
    if frame.attrs["differing"]:
        number = frame.attrs["differing"]
        cells = "1 cell has" if number == 1 else f"{number} cells have"
        _say(f"{cells} another accuracy in another folder; that of the first folder is used")
    if not frame.empty and (bare := int((~frame["checksum"].astype(bool)).sum())):
        _say(f"{count(bare, 'record')} of versions before 0.3 without a checksum")
    frame = _newest(_selected(frame, selection), drop=newest)
    _warn_unfinished(frame, keys)
    return frame


def _selected(frame: pd.DataFrame, selection: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the selected rows; seeds of the noise do not select among clean images."""
    others = {name: values for name, values in selection.items() if name != "noise_seed"}
    frame = select(frame, **others)
    if frame.empty:
        return frame
    clean = frame["attack"] == "clean"
    wanted = select(frame[~clean], noise_seed=selection.get("noise_seed", ()))
    return frame[clean | frame.index.isin(wanted.index)]


def _newest(frame: pd.DataFrame, *, drop: bool) -> pd.DataFrame:
    """Leave out the cells of earlier versions, or report them on stderr."""
    old = earlier(frame)
    is_old = old.any(axis=1)
    if drop or not is_old.any():
        return frame[~is_old]
    names = sorted(
        {
            str(name)
            for label in ("attack", "learner", "defense")
            for name in frame[label][old[label]]
        }
        | {str(name) for name in frame["attack"][old["unfinished"]]}
    )
    whose = f"earlier versions of {', '.join(names)}"
    _say(f"{count(int(is_old.sum()), 'cell')} of {whose}; leave them out with --newest")
    return frame


def _warn_unfinished(frame: pd.DataFrame, keys: Sequence[str] | None) -> None:
    if keys is not None:
        # Plans of versions before 0.2 have no labels, so that their missing cells have no row.
        done = 0 if frame.empty else int((frame["status"] == "done").sum())
        if done < len(keys):
            missing = f"{len(keys) - done} of the plan's {len(keys)} cells"
            _say(f"{missing} are not finished; run the plan's command again")
    if frame.empty:
        return
    failed = frame[frame["status"] == "failed"]
    if len(failed):
        first = failed.iloc[0]
        (noise_seed, seed), *_ = seed_pairs(failed)
        noise = "" if noise_seed == seed else f"noise seed {noise_seed}, "
        cell = f"{first['attack']}, rho_a {first['rho_a']}, {noise}seed {seed}"
        _say(f"{count(len(failed), 'cell')} failed; the first, {cell}: {first['reason']}")


def write_one(
    frame: pd.DataFrame,
    report: str | None,
    form: str | None,
    output: Path | None,
    settings: Mapping[str, str],
) -> None:
    """Print one report, or write it to a file.

    Raises:
        UserError: as `make_piece`; a figure without a file name; a file that cannot be written,
            in which case an existing one is unchanged.
    """
    usual = None
    if output is not None:
        _refuse_no_file(output)
        usual = _form_of(output, report)
        if report is None and form is None and output.suffix in (".csv", ".json", ".html"):
            form = output.suffix[1:]  # the reports of these names
    piece = make_piece(frame, report, form, settings, usual)
    if output is not None:
        known = {*FIGURE_FORMATS, *TABLE_FORMATS.values(), "csv", "json", "html", "txt", ""}
        ending = output.suffix[1:].lower()
        if ending != piece.suffix and (isinstance(piece.content, bytes) or ending not in known):
            ending = f"end the name in .{piece.suffix} or choose another --format"
            raise UserError(f"--output {output}: the report is a {piece.suffix} file; {ending}")
        _write(output, piece.content)
    elif isinstance(piece.content, bytes):
        named = f"--output {report or form}.{piece.suffix}"
        raise UserError(f"a {piece.suffix} file cannot be printed; write it with {named}")
    else:
        sys.stdout.write(piece.content)


def write_all(frame: pd.DataFrame, folder: Path) -> None:
    """Write every report in every format to a folder; report skipped ones on stderr.

    Raises:
        UserError: there is no cell, the folder is a file, or a file cannot be written.
    """
    refuse_no_cells(frame)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; with --all, give a folder")
    _refuse_results(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder}: {error.strerror or error}") from error
    written = 0
    for name, piece in pieces(frame):
        if isinstance(piece, UserError):
            _say(f"skipped {name}: {piece}")
            continue
        _write(folder / name, piece.content)
        written += 1
    sys.stdout.write(f"wrote {count(written, 'file')} to {folder}\n")


def _refuse_results(output: Path) -> None:
    """Refuse to write into a results folder, where a file could overwrite a record."""
    for parent in (output.absolute(), *output.absolute().parents):
        if (parent / "ubench.json").is_file():
            raise UserError(f"--output {output} is in the results folder {parent}; choose another")


def _refuse_no_file(output: Path) -> None:
    """Refuse a path that cannot be a file, before anything is computed."""
    _refuse_results(output)
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; name a file, or add --all")
    parent = output.absolute().parent
    if not parent.is_dir():
        raise UserError(f"--output {output}: no folder {parent}; make it or choose another")


def _form_of(output: Path, report: str | None) -> str | None:
    """Return the format of a file's ending, or None.

    Raises:
        UserError: the ending of a figure without a report that is a figure.
    """
    ending = output.suffix[1:]
    if report is None and ending in FIGURE_FORMATS:
        raise UserError(f"--output {output}: choose a figure, such as --report radius-curves")
    forms = {suffix: form for form, suffix in TABLE_FORMATS.items()}
    return ending if ending in FIGURE_FORMATS else forms.get(ending)


def _write(path: Path, content: str | bytes) -> None:
    try:
        write(path, content)
    except OSError as error:
        raise UserError(f"--output {path}: {error.strerror or error}") from error


def _say(text: str) -> None:
    sys.stderr.write(f"ubench: {printable(text)}\n")
