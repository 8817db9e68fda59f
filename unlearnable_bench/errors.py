"""The one exception that a user sees as a single line."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: what is wrong, and the next step. The command line
    prints it on stderr and exits with code 2.
    """


def in_words(error: BaseException) -> str:
    """Say in one line what went wrong, and for what nobody foresaw, where."""
    if isinstance(error, UserError):
        return str(error)
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    where = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame else ""
    return f"{type(error).__name__}: {error}{where}".replace("\n", " ")


@contextmanager
def blaming(whom: str) -> Iterator[None]:
    """Make a `UserError` of whatever a plugin's code raises; `whom` names it."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{whom} fails: {in_words(error)}") from error


def unknown(kind: str, name: str, available: Iterable[str]) -> UserError:
    """Return the error for a name that is not registered, with the nearest ones."""
    names = sorted(available)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r};{hint} available: {', '.join(names) or 'none'}")
