"""Reports in their formats: from a frame to text or the bytes of a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from unlearnable_bench.contract import Report
from unlearnable_bench.errors import UserError, plugin_errors, unknown
from unlearnable_bench.options import Configurable
from unlearnable_bench.planning import registry
from unlearnable_bench.results.aggregate import finished
from unlearnable_bench.results.names import parse_aliases
from unlearnable_bench.results.table import Table
from unlearnable_bench.storage.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Reports that `ubench run` and `ubench report` print by default.
DEFAULT = ("main", "defenses", "protection")
# Formats of tables and the endings of their files; the format is a module of reports/.
TABLE_FORMATS = {"latex": "tex", "markdown": "md", "csv": "csv", "html": "html"}
FIGURE_FORMATS = ("pdf", "png", "svg")


@dataclass(frozen=True)
class Piece:
    """A report in a format.

    Attributes:
        content: text, or the bytes of a file.
        suffix: ending of its file, such as `tex`.
    """

    content: str | bytes
    suffix: str


def render(
    frame: pd.DataFrame, name: str = "markdown", /, form: str | None = None, **settings: Any
) -> str | bytes:
    """Return a report of the cells in a frame: text, or the bytes of a figure.

    Args:
        frame: from `load_records`.
        name: name of a report, such as `main` or `radius-curves`; `latex` or `markdown`: the
            main tables in that format.
        form: the format of the report; None: Markdown for tables, PDF for figures.
        settings: options of the report and of the format.

    Raises:
        UserError: an unknown report, format or option, or records without the data it needs.
    """
    if form is None and name in ("latex", "markdown"):
        return make_piece(frame, None, name, settings).content
    return make_piece(frame, name, form, settings).content


def default_tables(frame: pd.DataFrame) -> list[Table]:
    """Return the tables that `ubench run` prints at its end.

    Raises:
        UserError: no cell is finished.
    """
    _refuse_empty(frame)
    tables: list[Table] = []
    for name in DEFAULT:
        tables += rendered(registry.reports.get(name)(), name, frame, empty=True)
    return tables


def make_piece(
    frame: pd.DataFrame,
    report: str | None = None,
    form: str | None = None,
    settings: Mapping[str, Any] = {},
    usual: str | None = None,
) -> Piece:
    """Return one report in one format.

    Args:
        frame: from `load_records`.
        report: name of a report; None: the main tables, or the report named like the format
            (`csv`, `json`, `html`).
        form: `latex`, `markdown`, `csv` or `html` for tables, `pdf`, `png` or `svg` for figures;
            None: Markdown, or PDF.
        settings: options of the report and of the format by name.
        usual: format of tables and figures if `form` is None, from the ending of the output file.

    Raises:
        UserError: an unknown report, format or option, or records without the data it needs.
    """
    if report is None and form is not None and form not in ("latex", "markdown"):
        if form not in registry.reports.names():
            raise unknown("report or format", form, {*registry.reports.names(), *TABLE_FORMATS})
        report, form = form, None
    if report is None:
        return _in_format(default_tables(frame), form, settings, usual=usual)
    kind = registry.reports.get(report)
    _refuse_empty(frame, kind)
    own = {name: settings[name] for name in settings if name in _names(kind)}
    rest = {name: value for name, value in settings.items() if name not in own}
    found = rendered(registry.reports.choose(report, own).plugin, report, frame)
    return _in_format(found, form, rest, kind, report, usual)


def _in_format(
    found: Any,
    form: str | None,
    settings: Mapping[str, Any],
    kind: type[Report] = Report,
    report: str = "main",
    usual: str | None = None,
) -> Piece:
    if isinstance(found, str | bytes):
        if form is not None:
            raise UserError(f"report {report!r} has only one format; omit --format")
        _refuse_options(settings, report, _names(kind))
        return Piece(found, kind.suffix.lstrip("."))
    if isinstance(found, list):
        form = form or usual or "markdown"
        if form not in TABLE_FORMATS:
            raise unknown("format of tables", form, TABLE_FORMATS)
        module = import_module(f"unlearnable_bench.reports._{form}")
        names = _names(module.Style)
        _refuse_options(settings, report, {*_names(kind), *names}, taken=names)
        style = module.Style.configured(settings, owner=form)
        _check_aliases(found, parse_aliases(style.aliases))
        text: str = module.render(found, style)
        return Piece(text, TABLE_FORMATS[form])
    form = form or usual or "pdf"
    if form not in FIGURE_FORMATS:
        raise unknown("format of figures", form, FIGURE_FORMATS)
    _refuse_options(settings, report, _names(kind))
    return Piece(saved(found, form), form)


def _check_aliases(tables: Sequence[Table], aliases: Mapping[str, str]) -> None:
    """Refuse the same name for two rows; aliases of other labels may be for other reports."""
    for table in tables if aliases else ():
        names: dict[str, str] = {}
        for row in table.rows:
            name = row.name(aliases)
            other = names.setdefault(name, row.label)
            if other != row.label:
                raise UserError(f"aliases give {other!r} and {row.label!r} the same name, {name!r}")


def saved(figure: "Figure", form: str) -> bytes:
    """Return a figure as a file, whose bytes depend only on the figure."""
    return bytes(import_module("unlearnable_bench.reports._figure").saved(figure, form))


def _names(kind: type[Configurable]) -> set[str]:
    return {field.name for field in fields(kind)}


def _refuse_options(
    settings: Mapping[str, Any],
    report: str,
    known: set[str],
    taken: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:
    for name in settings:
        if name not in taken:
            raise unknown(f"option of {report}", name, known)


def rendered(plugin: Report, name: str, frame: pd.DataFrame, *, empty: bool = False) -> Any:
    """Return the output of a report, checked against the contract.

    Args:
        plugin: the report.
        name: name of the report, for messages.
        frame: from `load_records`.
        empty: whether an empty list of tables is allowed.

    Raises:
        UserError: the report fails or has no tables.
    """
    with plugin_errors(f"report {name!r}"):
        found: Any = plugin.render(frame)
        if isinstance(found, Table):
            found = [found]
        if isinstance(found, Sequence) and not isinstance(found, str | bytes):
            found = list(found)
    tables = isinstance(found, list) and all(isinstance(one, Table) for one in found)
    figure = type(found).__module__.startswith("matplotlib.") and hasattr(found, "savefig")
    if not (tables or figure or isinstance(found, str | bytes)):
        kind = type(found).__name__
        raise UserError(f"report {name!r} must render tables, a figure, text or bytes, got {kind}")
    if found == [] and not empty:
        raise UserError(f"these records have no data for the report {name!r}")
    return found


def refuse_no_cells(frame: pd.DataFrame) -> None:
    """Raise a UserError if there is no cell, finished or not."""
    if frame.empty:
        raise UserError("no finished cell to report; run `ubench run` first")


def _refuse_empty(frame: pd.DataFrame, kind: type[Report] = Report) -> None:
    refuse_no_cells(frame)
    if finished(frame).empty and not kind.shows_unfinished:
        failed = frame[frame["status"] == "failed"]
        why = f" ({failed['reason'].iloc[0]})" if len(failed) else ""
        missing = len(frame) - len(failed)
        raise UserError(
            f"no cell is finished ({len(failed)} failed{why}, {missing} missing); run `ubench run` "
            "again"
        )


def pieces(frame: pd.DataFrame) -> Iterator[tuple[str, Piece | UserError]]:
    """Yield every report in each of its formats, with the name of its file.

    A report without data in these records is yielded as its error.
    """
    for name in registry.reports.names():
        try:
            kind = registry.reports.get(name)
            _refuse_empty(frame, kind)
            found = rendered(registry.reports.choose(name).plugin, name, frame)
            forms: Sequence[str | None] = [None]
            if isinstance(found, list):
                forms = list(TABLE_FORMATS)
            elif not isinstance(found, str | bytes):
                forms = ["pdf", "png"]
            for form in forms:
                piece = _in_format(found, form, {}, kind, name)
                yield f"{kind.stem or name}.{piece.suffix}", piece
        except UserError as error:
            yield name, error


def write(path: Path, content: str | bytes) -> None:
    """Write a file atomically; a device or a pipe is written to directly.

    Raises:
        OSError: it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    if path.is_dir():
        raise UserError(f"--output {path} is a folder; name a file, or add --all")
    with replacing(path, size=len(data)) as temporary:
        temporary.write_bytes(data)
