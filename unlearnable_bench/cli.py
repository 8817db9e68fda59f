"""The command `ubench`: its commands, and how it ends."""

import sys
from typing import Annotated, Any, NoReturn

import typer

from unlearnable_bench import __version__, interruption, streams
from unlearnable_bench.commands.bench import bench
from unlearnable_bench.commands.correlate import correlate
from unlearnable_bench.commands.data import data_app
from unlearnable_bench.commands.list import list_kind
from unlearnable_bench.commands.report import compare, report
from unlearnable_bench.commands.run import run
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._text import printable

INTERRUPTED = 130  # exit code of Ctrl-C by some versions of typer, whatever the signal

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run)
app.command("correlate")(correlate)
app.command("report")(report)
app.command("compare")(compare)
app.command("list")(list_kind)
app.command("bench")(bench)
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
    except UserError as error:
        return _failed(str(error))
    except OSError as error:  # a path that cannot be written, a full disk
        return _failed(f"{error.filename or 'file'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # typer's own errors; their class has moved between its versions.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "ubench"
        return _failed(f"{error.format_message().rstrip('.')}; see {command} --help")
    if code == INTERRUPTED:  # which some versions of typer return instead of raising
        return _failed(str(interruption.last()), interruption.last().code)
    return code if isinstance(code, int) else 0


def _failed(message: str, code: int = 2) -> int:
    sys.stderr.write(f"ubench: {printable(message)}\n")
    return code
