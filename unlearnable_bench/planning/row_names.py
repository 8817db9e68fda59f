"""Rows that the user names: `ours=file:noise.npy`."""

from collections.abc import Sequence
from dataclasses import replace

from unlearnable_bench.contract import Attack
from unlearnable_bench.errors import UserError
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.registry import Chosen

_FORBIDDEN = "[],=:#"


def split_row(method: str) -> tuple[str, str]:
    """Return the row's name, or an empty text, and the method.

    Examples:
        >>> from unlearnable_bench.planning.row_names import split_row
        >>> split_row("ours = file:a=b.npy"), split_row("file:a=b.npy")
        (('ours', 'file:a=b.npy'), ('', 'file:a=b.npy'))
    """
    row, equals, rest = method.partition("=")
    if not equals or ":" in row:
        return "", method
    return row.strip(), rest.strip()


def named(chosen: Chosen[Attack], row: str) -> Chosen[Attack]:
    """Return an attack under a row's name, without its path in label and key."""
    passed = {name: value for name, value in chosen.passed.items() if name != "path"}
    return replace(chosen, row=row, passed=passed)


def refuse_rows(methods: Sequence[str]) -> None:
    """Refuse names of rows that are in use, or that tables and command lines cannot have.

    Raises:
        UserError: names the row and what is allowed.
    """
    rows = [(*split_row(method), method) for method in methods if "=" in method.partition(":")[0]]
    seen: dict[str, str] = {}
    for row, rest, method in rows:
        how = "write ROW=file:PATH, such as ours=file:noise.npy"
        if not rest.partition(":")[1]:
            raise UserError(f"--methods {method}: only methods with a path have a row name; {how}")
        if not row or not row.isprintable() or any(mark in row for mark in _FORBIDDEN):
            raise UserError(
                f"--methods {method}: {row!r} is no name of a row (printable, without "
                f"{' '.join(_FORBIDDEN)}); {how}"
            )
        if row in registry.attacks.names() or row in registry.RESERVED:
            raise UserError(f"--methods {method}: {row!r} is the name of another row; choose one")
        if seen.setdefault(row, rest) != rest:
            raise UserError(f"--methods {method}: {row!r} is also {seen[row]}; choose another name")
