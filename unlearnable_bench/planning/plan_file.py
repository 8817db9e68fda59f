"""Parse the options of `ubench run`, and read and write them as TOML plan files."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.options import Setting, as_texts, checked_setting
from unlearnable_bench.planning.row_names import split_row
from unlearnable_bench.radius import Radius
from unlearnable_bench.storage.files import write_text

# Options of `run` that are not part of a plan file: where and how fast a plan runs.
_MACHINE = (
    "device", "out", "pack", "threads", "executor", "gpus", "workers", "ray-address", "plugin",
    "dry-run", "write", "keep-learners",
)  # fmt: skip
_KEYWORDS = {"set": "settings"}  # options that have another name in make_plan
_MOST_SEEDS = 1000


def arguments(asked: Mapping[str, Any], flag: str) -> dict[str, Any]:
    """Return the arguments of `make_plan` for the options of `ubench run`.

    Args:
        asked: long names of options to a text, or to a list of texts; `clean` to true or false,
            `set` to a table of settings.
        flag: prefix of an option's name in messages: `--`, or the plan file.

    Raises:
        UserError: a text that is not a value of its option.
    """
    return {
        _KEYWORDS.get(name, name.replace("-", "_")): _PARSERS[name](flag + name, value)
        for name, value in asked.items()
    }


def merged(file: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan file's options, overridden by the command line; settings one by one."""
    return {**file, **line, "set": {**file.get("set", {}), **line.get("set", {})}}


def read(path: Path) -> dict[str, Any]:
    """Return the options that a plan file holds, as `arguments` takes them.

    Raises:
        UserError: a missing file, invalid TOML, an unknown key, or an invalid value.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"no plan file {path}; attacks are given with --methods, such as --methods sem,rem"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; a plan file is a TOML file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a TOML file: it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not a TOML file: {error}") from None
    asked = {name: _texts(name, value, path) for name, value in document.items()}
    arguments(asked, f"{path}: ")
    return asked


def write(path: Path, asked: Mapping[str, Any]) -> None:
    """Write a plan file atomically.

    Args:
        path: a file that does not exist yet.
        asked: as `read` returns it.

    Raises:
        UserError: the file exists or cannot be written.
    """
    if os.path.lexists(path):
        raise UserError(f"--write {path} already exists; choose another name or remove it")
    top = {name: asked[name] for name in _PARSERS if name in asked and name != "set"}
    settings = {key: _as_toml(value) for key, value in asked.get("set", {}).items()}
    try:
        write_text(path, tomli_w.dumps(top | ({"set": settings} if settings else {})))
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--write {path}: {reason}; choose another place") from None


def _texts(name: str, value: Any, path: Path) -> Any:
    """Return a value of a TOML file as the command line's text, and settings by `NAME.OPTION`."""
    if name in _MACHINE:
        raise UserError(f"{path}: {name} is not part of a plan; give --{name} on the command line")
    if name not in _PARSERS:
        raise UserError(f"{path}: {unknown('key', name, _PARSERS)}")
    if name == "clean":
        return value
    if name == "set":
        return _settings(value, path)
    checked = checked_setting(value, f"{path}: {name}")
    return as_texts(checked)


def _settings(table: Any, path: Path) -> dict[str, Setting]:
    """Flatten `"sem.steps" = 5` and `[set.sem] steps = 5`, which are equivalent."""
    if not isinstance(table, dict):
        raise UserError(
            f'{path}: set must be a table; write [set], and below it "NAME.OPTION" = VALUE'
        )
    found: dict[str, Setting] = {}
    for key, value in table.items():
        nested = value.items() if isinstance(value, dict) else ()
        for name, one in [(f"{key}.{option}", one) for option, one in nested] or [(key, value)]:
            if name in found:
                raise UserError(f"{path}: set {name} is given twice: write a list of its values")
            found[name] = checked_setting(one, f"{path}: set {name}")
    return found


def _as_toml(value: Any) -> Any:
    """Return a text as a number or boolean if reading it back gives the same text."""
    if not isinstance(value, str | list):
        return value
    if isinstance(value, list):
        return [_as_toml(one) for one in value]
    if value in {"true", "false"}:
        return value == "true"
    for kind in (int, float):
        try:
            if str(kind(value)) == value:
                return kind(value)
        except ValueError:
            continue
    return value


def _names(flag: str, value: str | list[str]) -> list[str]:
    texts = _parts(value)
    if not texts or not all(texts):
        raise UserError(f"{flag} {_joined(texts)}: give comma-separated names, such as sem,rem")
    return texts


def _methods(flag: str, value: str | list[str]) -> list[str]:
    """Return the names of methods; a path may have commas if there is such a file."""
    if not isinstance(value, str):
        return _names(flag, value)
    parts, methods = value.split(","), []
    while parts:
        wholes = ((count, ",".join(parts[:count])) for count in range(len(parts), 1, -1))
        count = next((count for count, whole in wholes if _is_file(whole)), 1)
        methods.append(",".join(parts[:count]))
        del parts[:count]
    return _names(flag, methods)


def _is_file(method: str) -> bool:
    kind, _, path = split_row(method.strip())[1].partition(":")
    return bool(path) and "," not in kind and os.path.exists(path)  # noqa: PTH110 - Path refuses long names


def _radii(flag: str, value: str | list[str]) -> list[Radius]:
    try:
        return [Radius(text) for text in _parts(value)]
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None


def _shares(flag: str, value: str | list[str]) -> list[float]:
    texts = _parts(value)
    try:
        return [float(text) for text in texts]
    except ValueError:
        given = _joined(texts)
        raise UserError(f"{flag} {given}: give comma-separated shares, such as 0.2,0.8") from None


def _seeds(flag: str, value: str | list[str]) -> list[int]:
    texts = _parts(value)
    seeds: list[int] = []
    for text in texts:
        match = re.fullmatch(r"([0-9]{1,20})(?:\s*-\s*([0-9]{1,20}))?", text)
        if match is None:
            raise UserError(
                f"{flag} {_joined(texts)}: give comma-separated whole numbers or ranges, such as "
                "0,2-4"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"{flag} {text!r}: a range must ascend, such as {last}-{first}")
        if len(seeds) + last - first >= _MOST_SEEDS:
            raise UserError(f"{flag} {text!r}: a plan has at most {_MOST_SEEDS:,} seeds")
        seeds += range(first, last + 1)
    return seeds


def _name(flag: str, value: str | list[str]) -> str | None:
    if not isinstance(value, str):
        raise UserError(f"{flag} takes one name, got a list of {len(value)}")
    return value or None


def _switch(flag: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{flag} must be true or false, got {value!r}")
    return value


def _table(_flag: str, value: dict[str, Setting]) -> dict[str, Setting]:
    return value  # the plugins check it


def _parts(value: str | list[str]) -> list[str]:
    return [text.strip() for text in (value.split(",") if isinstance(value, str) else value)]


def _joined(texts: list[str]) -> str:
    return repr(",".join(texts))


def _or_none(parser: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Treat an empty text or list as an option that is not given."""
    return lambda flag, value: parser(flag, value) if value else ()


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "methods": _methods,
    "rho-a": _radii,
    "rho-u": _or_none(_radii),
    "dataset": _name,
    "preset": _name,
    "learners": _or_none(_names),
    "surrogate": _name,
    "defenses": _names,
    "protect": _shares,
    "protect-classes": _or_none(_names),
    "seeds": _seeds,
    "noise-seeds": _or_none(_seeds),
    "set": _table,
    "clean": _switch,
    "precision": _name,
}
