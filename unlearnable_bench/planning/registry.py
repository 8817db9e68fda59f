"""The registries of plugins: entry points, and single files given with `--plugin`."""

import ast
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from unlearnable_bench.contract import (
    Attack,
    Dataset,
    Defense,
    Learner,
    Plugin,
    Report,
    first_line,
)
from unlearnable_bench.errors import UserError, one_line, unknown
from unlearnable_bench.execution import Executor
from unlearnable_bench.planning.other_names import what_to_write
from unlearnable_bench.planning.packages import package_of

_OWN = "unlearnable_bench."
# Rows of tables and sections of --set that are not plugins.
RESERVED = ("remainder", "training", "adversarial", "surrogate")

T = TypeVar("T", bound=Plugin)


@cache
def entry_points(*, group: str, name: str | None = None) -> EntryPoints:
    """Return the entry points of a group; the metadata of all packages is read once."""
    found = metadata.entry_points(group=group)
    return found if name is None else found.select(name=name)


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """A configured plugin, with what its label and its identity need.

    Attributes:
        name: registered name.
        passed: the user's settings that differ from the preset; they are part of the label.
        plugin: the configured object.
        source: SHA-256 of the file, for a plugin that is not packaged.
        row: name that the user chose (`ours=file:noise.npy`); empty: the registered name.
        package: name, version and hash of the package, for an installed plugin of others.
        weights: SHA-256 of the weights that a pretrained learner starts from; otherwise empty.
    """

    name: str
    passed: Mapping[str, Any]
    plugin: T
    source: str | None = None
    row: str = ""
    package: Mapping[str, str] | None = None
    weights: str = ""

    @property
    def label(self) -> str:
        """`sem`, or `sem[steps=2000]` if the user changed an option."""
        settings = ",".join(f"{key}={value}" for key, value in sorted(self.passed.items()))
        name = self.row or self.name
        return f"{name}[{settings}]" if settings else name

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the plugin's behaviour; part of the keys of results."""
        # An option whose value is None is left out, so that a new one does not change old keys.
        options = {
            name: value for name, value in self.plugin.option_values().items() if value is not None
        }
        if self.row:  # its file is known by the fingerprint, wherever it lies
            options.pop("path", None)
        identity = {"name": self.name, "version": self.plugin.version, "options": options}
        extra = {
            "source": self.source,
            "package": self.package,
            "fingerprint": self.plugin.fingerprint(),
            "pretrained": self.weights,
        }
        return identity | {name: value for name, value in extra.items() if value}


@dataclass
class Registry(Generic[T]):
    """The plugins of one kind by name.

    Attributes:
        kind: singular name for messages ("attack").
        group: the entry-point group.
        base: the base class.
    """

    kind: str
    group: str
    base: type[T]
    _from_files: dict[str, tuple[type[T], str]] = field(default_factory=dict)
    _paths: dict[str, Path] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return every registered name, sorted, without importing anything."""
        return sorted(
            {point.name for point in entry_points(group=self.group)} | {*self._from_files}
        )

    def get(self, name: str) -> type[T]:
        """Import and return the class registered under `name`.

        Raises:
            UserError: an unknown name, two packages that register it, or a plugin that
                fails on import.
        """
        if name in self._from_files:
            return self._from_files[name][0]
        return self._load(self._point(name))

    def _point(self, name: str) -> EntryPoint:
        """Return the one entry point of a name; as `get`."""
        points = entry_points(group=self.group, name=name)
        if not points:
            instead = what_to_write(self.kind, name)
            raise unknown(self.kind, name, self.names(), instead)
        if len({point.value for point in points}) > 1:
            packages = " and ".join(sorted(map(_package, points)))
            both = f"{self.kind} {name!r} is registered by {packages}"
            raise UserError(f"{both}; uninstall one of them")
        return next(iter(points))

    def summary(self, name: str) -> str:
        """Return the first line of a plugin's docstring.

        Built-in plugins are parsed, not imported, so that `ubench list` does not wait for torch.

        Raises:
            UserError: as `get`.
        """
        return self.parsed_summary(name) or self.get(name).summary()

    def parsed_summary(self, name: str) -> str:
        """Return the first line of a built-in plugin's docstring, "" for others."""
        parsed = self._parsed(name)
        return first_line(ast.get_docstring(parsed) or "") if parsed else ""

    def needs(self, name: str) -> str:
        """Return what a plugin declares to need; empty for kinds that declare nothing.

        Built-in plugins are parsed, not imported.

        Raises:
            UserError: as `get`.
        """
        if not hasattr(self.base, "needs"):
            return ""
        node = self._parsed(name)
        for line in node.body if node else []:
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value:
                target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
                if ast.unparse(target) == "needs":
                    return str(ast.literal_eval(line.value))
        return str(self.get(name).needs)  # type: ignore[attr-defined]

    def takes_path(self, name: str) -> bool:
        """Return whether a built-in plugin has the option `path`, as in `npz:PATH`."""
        body = getattr(self._parsed(name), "body", [])
        return any(isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "path" for n in body)

    def _parsed(self, name: str) -> ast.ClassDef | None:
        """Return the class of a built-in plugin, None for others, without importing it."""
        values = {point.value for point in entry_points(group=self.group, name=name)}
        if name in self._from_files or len(values) != 1:
            return None
        module, _, cls = values.pop().partition(":")
        return _class(module, cls) if module.startswith(_OWN) else None

    def choose(
        self, name: str, passed: Mapping[str, Any] = {}, preset: Mapping[str, Any] = {}
    ) -> Chosen[T]:
        """Build the plugin `name` with a preset's values, overridden by the user's.

        Raises:
            UserError: as `get`, or an unknown option or invalid value.
        """
        cls = self.get(name)
        source = self._from_files[name][1] if name in self._from_files else None
        package = None if source else package_of(self._point(name), cast("type", cls))
        plugin = cls.configured({**preset, **passed}, owner=name)
        usual, used = cls.configured(preset, owner=name).option_values(), plugin.option_values()
        changed = {key: used[key] for key in passed if used[key] != usual[key]}
        return Chosen(name, changed, plugin, source, package=package)

    def names_from(self, digest: str) -> list[str]:
        """Return the names that a source with this hash registered."""
        return [name for name, (_, source) in self._from_files.items() if source == digest]

    def forget_file(self, path: Path) -> None:
        """Free the names that a file registered, whatever its content was."""
        for name in [n for n, known in self._paths.items() if known == path.resolve()]:
            self._from_files.pop(name, None)
            del self._paths[name]

    def add_class(self, cls: type[T], digest: str) -> str:
        """Register a class, instead of an older one of its name; return the name.

        Raises:
            UserError: a class that is not a complete plugin, or the name of an installed one.
        """
        self._from_files.pop(plugin_name(cls), None)
        return self._add([cls], digest, f"class {cls.__name__}")[0]

    def add_file(self, classes: Iterable[type], digest: str, path: Path) -> list[str]:
        """Register the plugin classes of a file; `MyNoise` becomes `my-noise`.

        Raises:
            UserError: a class that is not a complete plugin, or a name in use.
        """
        added = self._add(classes, digest, f"--plugin {path}")
        self._paths |= dict.fromkeys(added, path.resolve())
        return added

    def _add(self, classes: Iterable[type], digest: str, origin: str) -> list[str]:
        added = []
        for cls in classes:
            if not issubclass(cls, self.base):
                continue
            if inspect.isabstract(cls):
                lacking = ", ".join(sorted(vars(cls)["__abstractmethods__"]))
                raise UserError(f"{origin}: define {lacking} in {cls.__name__}")
            if any(isinstance(value, Field) for value in vars(cls).values()):
                how = "@dataclass(frozen=True, kw_only=True)"
                raise UserError(f"{origin}: write {how} above {cls.__name__}")
            name = plugin_name(cls)
            if name in RESERVED:
                raise UserError(f"{origin}: the name {name!r} is reserved; rename the class")
            if name in self.names():
                raise UserError(f"{origin}: {self.kind} {name!r} already exists; rename the class")
            self._from_files[name] = (cls, digest)
            added.append(name)
        return added

    def _load(self, point: EntryPoint) -> type[T]:
        try:
            cls = point.load()
        except (Exception, SystemExit) as error:  # whatever a stranger's import raises
            owner = f"{self.kind} {point.name!r} of {_package(point)}"
            raise UserError(f"{owner} fails on import: {one_line(error)}") from error
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise UserError(
                f"{self.kind} {point.name!r} of {_package(point)} is not a subclass of "
                f"{self.base.__name__}"
            )
        return cls


def plugin_name(cls: type) -> str:
    """Return the name of a class that is not packaged: `MyNoise` is `my-noise`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()


def _class(module: str, cls: str) -> ast.ClassDef | None:
    """Return a class, parsed without importing its module."""
    spec, folders = None, sys.modules["unlearnable_bench"].__path__
    parts = module.split(".")
    for end in range(2, len(parts) + 1):
        # `importlib.util.find_spec` would import the packages around it, of which one needs torch.
        spec = PathFinder.find_spec(".".join(parts[:end]), folders)
        if spec is None:
            return None
        folders = spec.submodule_search_locations or []
    if spec is None or spec.origin is None:
        return None
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == cls:
            return node
    return None


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


attacks = Registry("attack", "unlearnable_bench.attacks", Attack)  # type: ignore[type-abstract]
defenses = Registry("defense", "unlearnable_bench.defenses", Defense)
learners = Registry("learner", "unlearnable_bench.learners", Learner)  # type: ignore[type-abstract]
datasets = Registry("data set", "unlearnable_bench.datasets", Dataset)  # type: ignore[type-abstract]
reports = Registry("report", "unlearnable_bench.reports", Report)  # type: ignore[type-abstract]
executors = Registry("executor", "unlearnable_bench.executors", Executor)  # type: ignore[type-abstract]

REGISTRIES: dict[str, Registry[Any]] = {
    "attacks": attacks,
    "defenses": defenses,
    "learners": learners,
    "datasets": datasets,
    "reports": reports,
    "executors": executors,
}


def load_plugin_file(path: Path) -> list[str]:
    """Import a file and register the plugin classes that it defines.

    Returns:
        The names registered.

    Raises:
        UserError: a missing file, a failing import, a file without plugins, or a name in use.
    """
    if not path.is_file():
        kind = "a folder; give a Python file" if path.is_dir() else "no such file"
        raise UserError(f"--plugin {path}: {kind}")
    module_name = f"ubench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look up their module
    writes_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # leave no __pycache__ next to the user's file
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a stranger's import raises
        raise UserError(f"--plugin {path} fails on import: {one_line(error)}") from error
    finally:
        sys.dont_write_bytecode = writes_bytecode
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    classes = _own_classes(module)
    names = [
        n for registry in REGISTRIES.values() for n in registry.add_file(classes, digest, path)
    ]
    if not names:
        kinds = "Attack, Defense, Learner, Dataset, Report or Executor"
        raise UserError(f"--plugin {path} defines no {kinds}")
    return names


def _own_classes(module: ModuleType) -> list[type]:
    members = vars(module).values()
    return [m for m in members if isinstance(m, type) and m.__module__ == module.__name__]
