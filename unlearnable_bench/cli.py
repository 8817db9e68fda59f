"""The command `ubench`: its commands, and how it ends."""

import re
import sys
from typing import Annotated, Any, NoReturn

import typer

from unlearnable_bench import __version__, traces
from unlearnable_bench.commands.autoattack import autoattack
from unlearnable_bench.commands.bench import bench
from unlearnable_bench.commands.correlate import correlate
from unlearnable_bench.commands.data import data_app
from unlearnable_bench.commands.detect import detect
from unlearnable_bench.commands.export import export
from unlearnable_bench.commands.learners import learners
from unlearnable_bench.commands.list import list_kind
from unlearnable_bench.commands.protect import protect
from unlearnable_bench.commands.report import compare, report
from unlearnable_bench.commands.reproduce import reproduce
from unlearnable_bench.commands.run import run
from unlearnable_bench.commands.status import show, status
from unlearnable_bench.commands.upkeep import archive, merge, remove, verify
from unlearnable_bench.commands.worker import worker
from unlearnable_bench.errors import UserError, one_line
from unlearnable_bench.reports._text import printable
from unlearnable_bench.running import interruption
from unlearnable_bench.screen import streams
from unlearnable_bench.storage.disk import disk_error

_LONG = re.compile(r"\S{1000,}")  # a value that was pasted by mistake
INTERNAL = 1  # exit code of an error that is not the user's
INTERRUPTED = 130  # exit code of Ctrl-C by some versions of typer, whatever the signal

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run)
app.command("correlate")(correlate)
app.command("protect")(protect)
app.command("report")(report)
app.command("compare")(compare)
app.command("status")(status)
app.command("show")(show)
app.command("verify")(verify)
app.command("rm")(remove)
app.command("archive")(archive)
app.command("merge")(merge)
app.command("reproduce")(reproduce)
app.command("export")(export)
app.command("list")(list_kind)
app.command("learners")(learners)
app.command("autoattack")(autoattack)
app.command("detect")(detect)
app.command("bench")(bench)
app.command("worker", hidden=True)(worker)
app.add_typer(data_app, name="data")


def _print_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"ubench {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A benchmark suite for availability poisoning (unlearnable examples)."""


def main() -> NoReturn:
    """Run the command line; a `UserError` is one line on stderr and exit code 2."""
    traces.hide()
    with interruption.raised(), streams.guarded() as outputs:
        code = _exit_code()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        lost = [output.lost for output in outputs.values() if output.lost]
        if lost:
            code = _failed(f"text was lost: {lost[0]}", code or 2)
    sys.exit(code)


def _exit_code() -> int:
    try:
        code: Any = app(sys.argv[1:] or ["--help"], prog_name="ubench", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        return _failed(*_line_of(error))
    if code == INTERRUPTED:  # which some versions of typer return instead of raising
        return _failed(str(interruption.last()), interruption.last().code)
    return code if isinstance(code, int) else 0


def _line_of(error: Exception) -> tuple[str, int]:
    """Return the line and the exit code of an error, whose traceback is printed or stored."""
    # typer's own errors; their class has moved between its versions.
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "ubench"
        return f"{error.format_message().rstrip('.')}; see {command} --help", 2
    full = disk_error(error)
    named = isinstance(error, OSError) and error.filename is not None  # e.g. no permission
    where = "" if full or (named and not traces.is_shown()) else traces.told(error)
    if isinstance(error, UserError) or full:
        return f"{full or error}{where}", 2
    if isinstance(error, OSError) and named:
        return f"{error.filename}: {error.strerror}{where}", 2
    return f"internal error, please report it: {one_line(error)}{where}", INTERNAL


def _failed(message: str, code: int = 2) -> int:
    message = _LONG.sub(lambda word: f"{word[0][:100]}...{word[0][-100:]}", message)
    sys.stderr.write(f"ubench: {printable(message)}\n")
    return code
