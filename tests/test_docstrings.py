"""The examples in docstrings run and print what they show, in the checkout and installed."""

import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import unlearnable_bench

PACKAGES = ("unlearnable_bench", *(f"unlearnable_bench.{p}" for p in ("attacks", "defenses")))
# Names whose examples are pages of the documents, which CI runs too.
ON_PAGES = {"Report", "Table", "load_records", "make_plan", "render", "run"}


def modules_with_examples() -> Iterator[str]:
    """Yield modules by the text of their files: to import all of them takes long."""
    for package in PACKAGES:
        file = import_module(package).__file__
        assert file is not None
        root = Path(file).parent
        for path in sorted(root.rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(root).with_suffix("").parts
                yield ".".join([package, *(part for part in parts if part != "__init__")])


@pytest.mark.parametrize("name", dict.fromkeys(modules_with_examples()))
def test_examples_print_what_they_show(name: str) -> None:
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_public_name_has_an_example_in_its_docstring_or_on_a_page() -> None:
    docs = {name: inspect.getdoc(getattr(unlearnable_bench, name)) for name in named()}
    assert [name for name, text in docs.items() if ">>> " not in (text or "")] == []


def named() -> list[str]:
    return [name for name in unlearnable_bench.__all__ if name not in {*ON_PAGES, "__version__"}]
