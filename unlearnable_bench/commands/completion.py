"""Completion of values in a shell: names of plugins and presets, and paths after a colon.

It runs at each press of the key, so it imports no plugin and not torch: names are those of
the installed packages' metadata, and texts of built-in plugins are parsed from their files.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

Complete = Callable[[str], list[tuple[str, str]]]


def names_of(kind: str, separators: str = "") -> Complete:
    """Return a function that completes names.

    Args:
        kind: a registry such as "attacks", or "presets".
        separators: characters that separate the items of a list, of which the last is completed;
            those of an outer list come first. Empty: the value is a single name.
    """

    def complete(incomplete: str) -> list[tuple[str, str]]:
        # In `jpeg,cutmix+cut`: `cutmix+cut` after `jpeg`, and `cut` after `cutmix`.
        lists = [incomplete]
        for separator in separators:
            *used, last = lists[-1].split(separator)
            lists = [*used, last] if used else lists
        item = lists[-1]
        if kind == "attacks":  # of `ours=file:noise.npy`, what follows the row's name
            item = item.rpartition("=")[2]
        before = incomplete.removesuffix(item)
        found = _candidates(kind, item)
        return [(f"{before}{name}", text) for name, text in found if name not in lists[:-1]]

    return complete


def words(*known: str) -> Complete:
    """Return a function that completes one of these words."""
    return lambda incomplete: [(word, "") for word in known if word.startswith(incomplete)]


def _candidates(kind: str, item: str) -> list[tuple[str, str]]:
    """Return names, or `NAME:` and a path, that begin with an item; and a text for each."""
    from unlearnable_bench.planning import registry
    from unlearnable_bench.presets import load_preset, preset_names

    if kind == "presets":
        found = [name for name in preset_names() if name.startswith(item)]
        return [(name, load_preset(name).summary) for name in found]
    plugins = registry.REGISTRIES[kind]
    name, colon, path = item.partition(":")
    if colon:
        return _with_path(kind, name, path) if name in plugins.names() else []
    found = [name for name in plugins.names() if name.startswith(item)]
    with_path = {name for name in found if plugins.takes_path(name)}
    if len(found) == 1 and with_path:
        # Shells add a space to a single candidate, where a path must follow.
        return [(f"{found[0]}:{path}", "") for path in _paths("")] or [(f"{found[0]}:", "")]
    return [
        (f"{name}:" if name in with_path else name, plugins.parsed_summary(name)) for name in found
    ]


def _with_path(kind: str, name: str, path: str) -> list[tuple[str, str]]:
    """Return the values that begin with a name, a colon and a part of a path."""
    before = f"{name}:"
    if kind == "learners":  # resnet18:pretrained=FILE
        option = "pretrained="
        if not path.startswith(option):
            return [(before + option, "")] if option.startswith(path) else []
        before, path = before + option, path.removeprefix(option)
    return [(f"{before}{found}", "") for found in _paths(path)]


def _paths(text: str) -> Iterator[str]:
    """Yield the files and folders, the latter with a slash, whose path begins with a text."""
    folder, _, start = text.rpartition("/")
    folder = f"{folder}/" if "/" in text else ""
    try:
        entries = sorted(Path(os.path.expanduser(folder) or ".").iterdir())  # noqa: PTH111 - keeps "a//b"
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(start) and (start.startswith(".") or entry.name[0] != "."):
            yield f"{folder}{entry.name}{'/' if entry.is_dir() else ''}"
