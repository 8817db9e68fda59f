"""The one exception that a user sees as a single line."""

import difflib
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBRARIES = (
    "<",
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parent),
)


class UserError(Exception):
    """A mistake that the user can correct.

    The message is one line: what was given, what is allowed, and the next command. The
    command line prints it on stderr and exits with code 2.

    Examples:
        >>> from unlearnable_bench import Radius, UserError
        >>> try:
        ...     Radius("0.03")
        ... except UserError as error:
        ...     print(error)
        '0.03' is not a radius; write 0 or a fraction such as 4/255
    """


def one_line(error: BaseException) -> str:
    """Return an error as one line, with its type, file and line unless it is a `UserError`.

    The line is the last one in a file outside of Python, this package and installed ones: an error
    that NumPy raises is that of the plugin's line which calls it.
    """
    if isinstance(error, UserError):
        return str(error)
    lines = []
    trace = error.__traceback__
    while trace:
        lines.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    theirs = [line for line in lines if not line[0].startswith(_LIBRARIES)]
    file, number = (theirs or lines or [("", 0)])[-1]
    # A syntax error names its file and line itself.
    where = f" ({file}:{number})" if file and not isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {error}{where}".replace("\n", " ")


@contextmanager
def plugin_errors(whom: str) -> Iterator[None]:
    """Turn any exception of a plugin's code into a `UserError`.

    Args:
        whom: the plugin, for the message ("attack 'mine'").
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{whom} fails: {one_line(error)}") from error


def unknown(
    kind: str, name: str, available: Iterable[str], instead: str | None = None
) -> UserError:
    """Return the error for an unregistered name, with the closest match and all that exist.

    Args:
        kind: what the name should name ("attack").
        name: as given.
        available: the names that exist.
        instead: what to write for this name, if that is known.
    """
    names = sorted(available)
    # The last of two names that differ in case or punctuation only is as near as the first.
    spelled = {plain(one): one for one in names if plain(one)}
    near = [plain(name)] if plain(name) in spelled else []
    near = near or difflib.get_close_matches(plain(name), spelled, n=1)
    hint = f" did you mean {spelled[near[0]]!r}?" if near else ""
    if instead:
        hint = f" write {instead};"
    return UserError(f"unknown {kind} {name!r};{hint} available: {', '.join(names) or 'none'}")


def plain(name: str) -> str:
    """Return a name in lower case and without punctuation: `ResNet-18` is `resnet18`."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
