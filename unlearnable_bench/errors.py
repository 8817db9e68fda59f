"""The one exception that a user sees as a single line."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


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
    """Return an error as one line, with its type, file and line unless it is a `UserError`."""
    if isinstance(error, UserError):
        return str(error)
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    where = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame else ""
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


def unknown(kind: str, name: str, available: Iterable[str]) -> UserError:
    """Return the error for an unregistered name, with the closest match and all that exist."""
    names = sorted(available)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r};{hint} available: {', '.join(names) or 'none'}")
