"""`ubench list`: every plugin of a kind, or every preset."""

from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.options import OptionInfo
from unlearnable_bench.planning import registry
from unlearnable_bench.presets import load_preset, preset_names
from unlearnable_bench.reports._text import printable
from unlearnable_bench.screen.terminal import say, terminal


@dataclass(frozen=True)
class Listed:
    """One line of `ubench list`.

    Attributes:
        name: name of the plugin or preset.
        summary: first line of its docstring, or why it cannot be used.
        needs: what an attack or defense declares to need; empty for other kinds.
        options: its options.
    """

    name: str
    summary: str
    needs: str
    options: list[OptionInfo]


def listing(kind: str, *, options: bool) -> list[Listed]:
    """Return every preset, or every plugin of a kind.

    The summary of a plugin that fails on import is the reason.

    Args:
        kind: one of the registries, or "presets".
        options: whether to describe the options of each.

    Raises:
        UserError: an unknown kind.
    """
    kinds = [*registry.REGISTRIES, "presets"]
    if kind not in kinds:
        raise unknown("kind", kind, kinds)
    if kind == "presets":
        return [Listed(name, load_preset(name).summary, "", []) for name in preset_names()]
    plugins = registry.REGISTRIES[kind]
    entries = []
    for name in plugins.names():
        try:
            described = plugins.get(name).options() if options else []
            needs = plugins.needs(name)
            entries.append(Listed(name, plugins.summary(name), needs, described))
        except UserError as error:
            entries.append(Listed(name, f"unusable: {error}", "", []))
    return entries


def print_listing(entries: list[Listed]) -> None:
    """Print a line for each entry, and one for each of its options."""
    out = terminal()
    names = [printable(entry.name) for entry in entries]
    width = max(map(cell_len, names))
    for name, entry in zip(names, entries, strict=True):
        summary = f"{entry.summary} Needs: {entry.needs}." if entry.needs else entry.summary
        say(out, summary, prefix=set_cell_size(name, width + 2))
        for option in entry.options:
            facts = [option.type, option.range, f"default {option.default or 'empty'}"]
            meaning = f"{option.name} ({', '.join(filter(None, facts))}): {option.summary}"
            say(out, meaning, prefix=" " * (width + 4))
