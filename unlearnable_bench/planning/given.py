"""The arguments of `make_plan`: their types, and plugins given as a class or as a file."""

import hashlib
import inspect
import linecache
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.planning.registry import REGISTRIES, Registry, entry_points, load_plugin_file
from unlearnable_bench.radius import Radius


def names_of(kind: Registry[Any], items: Any) -> Any:
    """Return a list of names; classes and files are registered first, as `--plugin` does.

    A class or file that was edited since it was registered replaces the old one: its results have
    keys of their own.

    Args:
        kind: the registry of the names.
        items: names, plugin classes, and paths of Python files that define plugins; anything
            else is returned unchanged.

    Raises:
        UserError: a class or file that is not a plugin of this kind.
    """
    if isinstance(items, str) or not isinstance(items, Iterable):
        return items
    names: list[Any] = []
    for item in items:
        if isinstance(item, Path):
            names += _of_file(kind, item)
        elif isinstance(item, type):
            names.append(_of_class(kind, item))
        else:
            names.append(item)
    return names


def name_of(kind: Registry[Any], item: Any) -> Any:
    """Return the name of one plugin, as `names_of`."""
    names = names_of(kind, [item])
    if len(names) > 1:
        raise UserError(f"{item} defines {' and '.join(names)}; give the class of one of them")
    return names[0]


def if_given(value: Any) -> list[Any]:
    """Return a list of one argument, or an empty one if it is None."""
    return [] if value is None else [value]


def refuse_types(**given: tuple[Any, Any]) -> None:
    """Refuse arguments from a notebook that are not lists of the right type."""
    for name, (values, kind) in given.items():
        kinds = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise UserError(f"make_plan({name}=...) takes a list of {kinds}, got {values!r}")
        for value in values:
            if not isinstance(value, kind) or isinstance(value, bool):
                got = f"{value!r} of type {type(value).__name__}"
                if kind is Radius:
                    got += "; write Radius('4/255')"
                raise UserError(f"make_plan({name}=...) takes {kinds}, got {got}")


def _of_file(kind: Registry[Any], path: Path) -> list[str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    if not any(registry.names_from(digest) for registry in REGISTRIES.values()):
        for registry in REGISTRIES.values():
            registry.forget_file(path)
        load_plugin_file(path)
    names = kind.names_from(digest)
    if not names:
        raise UserError(f"{path} defines no {kind.kind}; give it where its plugins belong")
    return names


def _of_class(kind: Registry[Any], cls: type) -> str:
    if not issubclass(cls, kind.base):
        raise UserError(f"{cls.__name__} is not a subclass of {kind.base.__name__}")
    for point in entry_points(group=kind.group):
        if point.value == f"{cls.__module__}:{cls.__qualname__}":
            return str(point.name)
    return kind.add_class(cls, _digest(cls))


def _digest(cls: type) -> str:
    """Return the SHA-256 of the file, or the cell of a notebook, that defines a class.

    Raises:
        UserError: the source is not available, e.g. of a class typed at a prompt.
    """
    for member in vars(cls).values():
        function = inspect.unwrap(member) if callable(member) else None
        # Methods that a dataclass generates are from its own file, or from none.
        own = f"{cls.__qualname__}."
        if isinstance(function, FunctionType) and function.__code__.co_qualname.startswith(own):
            name = function.__code__.co_filename
            lines = linecache.getlines(name)
            if Path(name).is_file():
                return hashlib.sha256(Path(name).read_bytes()).hexdigest()
            if lines:
                return hashlib.sha256("".join(lines).encode()).hexdigest()
    raise UserError(
        f"the source of {cls.__name__} is not available, so its results could not be told from "
        f"those of another version; save it in a file and give the file: Path('my_plugin.py')"
    )
