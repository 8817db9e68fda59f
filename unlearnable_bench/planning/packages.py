"""Plugins that other packages install: the code that enters the keys of their results."""

import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

from unlearnable_bench.errors import UserError

_OWN = "unlearnable-bench"


@cache
def package_of(point: EntryPoint, cls: type) -> dict[str, str] | None:
    """Return name, version and SHA-256 of the package of a plugin; None for built-in plugins.

    The hash covers every .py file of the top-level package that holds the class, because a plugin
    imports its helpers from there, and every module beside it that the distribution names as its
    own. An editable install (`pip install -e`) so has another key after an edit, and the version
    covers what is not Python source, such as compiled code.

    Cached by class: in a notebook, a module that was edited and not reloaded still is its old code.

    Args:
        point: the entry point by which the plugin is installed.
        cls: its class, loaded.

    Raises:
        UserError: a file of the package that cannot be read.
    """
    if point.value.startswith("unlearnable_bench.") and (not point.dist or _name(point) == _OWN):
        return None
    digest = hashlib.sha256()
    for name, path in sorted(_sources(point, cls)):
        try:
            content = path.read_bytes()
        except OSError as error:
            owner = f"{point.name!r} of {_name(point)}"
            raise UserError(f"{owner}: {path} cannot be read ({error.strerror})") from error
        # With lengths, so that no two sets of files give the same bytes.
        digest.update(f"{len(name)} {name} {len(content)} ".encode(errors="surrogateescape"))
        digest.update(content)
    version = point.dist.version if point.dist else ""
    return {"name": _name(point), "version": version, "sha256": digest.hexdigest()}


def _name(point: EntryPoint) -> str:
    return point.dist.name.replace("_", "-") if point.dist else point.module


def _sources(point: EntryPoint, cls: type) -> set[tuple[str, Path]]:
    """Return the files, each with its name below the folder of the top-level package."""
    found: set[tuple[str, Path]] = set()
    for name in {point.module, cls.__module__}:
        top = _top(name)
        if top is None or top.__name__.partition(".")[0] == "unlearnable_bench":
            continue
        root = _root(top)
        found |= set(_files(root, top.__name__.rpartition(".")[2]))
        listed = point.dist.read_text("top_level.txt") if point.dist else None
        # Setuptools writes it; a name that lies elsewhere belongs to somebody else.
        for beside in (listed or "").split():
            found |= set(_files(root, beside))
    return found


def _top(name: str) -> ModuleType | None:
    """Return the outermost package of a module that is a folder with code or one file."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        module = sys.modules.get(".".join(parts[:count]))
        # A namespace package has no file, and may be shared by many distributions.
        if module is not None and getattr(module, "__file__", None):
            return module
    return None


def _root(top: ModuleType) -> Path:
    file = Path(str(top.__file__))
    return file.parent.parent if hasattr(top, "__path__") else file.parent


def _files(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    paths = [root / f"{name}.py", *(root / name).rglob("*.py")]
    for path in paths:
        inside = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield inside.as_posix(), path
