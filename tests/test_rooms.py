"""The house: nothing earlier imports what comes later, and the fast path is behind one door."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "unlearnable_bench"
SUBJECTS = ("attacks", "defenses", "reports")


def modules() -> dict[str, Path]:
    """Return every module of the installed package by its name."""
    homes = {PACKAGE: ROOT / PACKAGE} | {f"{PACKAGE}.{name}": ROOT / name for name in SUBJECTS}
    found = {}
    for prefix, folder in homes.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([prefix, *(part for part in parts if part != "__init__")])] = path
    return found


MODULES = modules()


def imports(node: ast.AST) -> Iterator[str]:
    """Yield what a module imports at run time, within functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield whole if whole in MODULES else child.module
        yield from imports(child)


def edges() -> dict[str, set[str]]:
    return {
        name: {other for other in imports(ast.parse(path.read_text())) if other in MODULES} - {name}
        for name, path in MODULES.items()
    }


def room(module: str) -> str:
    """Return the folder that a module lies in; a module of the top is a room of its own."""
    return ".".join(module.split(".")[:2])


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the names on one circle of a graph, or nothing."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            found = walk(other, [*path, node])
            if found:
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def rooms() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for module, others in edges().items():
        graph.setdefault(room(module), set()).update(map(room, others))
    # The package's own names are loaded on first use, for plugins and notebooks.
    return {name: others - {name, PACKAGE} for name, others in graph.items() if name != PACKAGE}


def test_no_module_imports_itself_through_others() -> None:
    assert circle({name: others - {PACKAGE} for name, others in edges().items()}) == []


def test_no_folder_imports_itself_through_others() -> None:
    assert circle(rooms()) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("name", ["attacks", "defenses", "learners", "datasets"])
def test_the_core_imports_no_plugin(name: str) -> None:
    importers = {who for who, others in rooms().items() if f"{PACKAGE}.{name}" in others}
    # `ubench data import` fills a cache; `ubench protect` reads pictures as `folder` does.
    assert importers - {f"{PACKAGE}.commands"} <= (
        {f"{PACKAGE}.protecting"} if name == "datasets" else set()
    )


def test_the_fast_path_has_one_door() -> None:
    fast = f"{PACKAGE}.fast"
    inside = {
        (who, other)
        for who, others in edges().items()
        for other in others
        if other.startswith(fast) and not who.startswith(fast)
    }
    assert inside == {(f"{PACKAGE}.running.environment", fast)}


def test_the_distribution_names_every_folder() -> None:
    """An editable installation finds the others too; a wheel would lack them."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {name.rpartition(".")[0] for name, path in MODULES.items() if path.stem != "__init__"}
    packages = {name for name, path in MODULES.items() if path.stem == "__init__"}
    # A folder of data alone, such as the page's, is named as well.
    assert packages | folders <= set(named)


def test_no_folder_holds_more_than_a_quarter_of_the_lines() -> None:
    lines: dict[str, int] = {}
    for module, path in MODULES.items():
        lines[room(module)] = lines.get(room(module), 0) + len(path.read_text().splitlines())
    assert max(lines.values()) < sum(lines.values()) / 4, lines
