"""Options: the typed, documented, validated fields of a plugin's dataclass."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Self

from unlearnable_bench.errors import UserError, unknown


def option(
    default: Any,
    summary: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Declare an option of a plugin: a dataclass field with its documentation.

    Args:
        default: the value used where nothing sets the option.
        summary: what it means, with its unit.
        minimum: smallest number allowed.
        maximum: largest number allowed.
    """
    limits = {"summary": summary, "minimum": minimum, "maximum": maximum}
    return dataclasses.field(default=default, metadata=limits)


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """What `ubench list --verbose` prints of one option."""

    name: str
    type: str
    default: str
    summary: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configurable:
    """Base of everything whose dataclass fields are options that a user can set."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_limits(field, getattr(self, field.name))

    @classmethod
    def options(cls) -> list[OptionInfo]:
        """Describe the options, in the order of the fields."""
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if "summary" not in field.metadata:
                raise UserError(f"{cls.__name__}.{field.name} must be declared with option(...)")
        return [
            OptionInfo(
                f.name,
                _spell(hints[f.name]),
                "none" if f.default is None else str(f.default),
                f.metadata["summary"],
            )
            for f in dataclasses.fields(cls)
        ]

    @classmethod
    def configured(cls, settings: Mapping[str, Any], *, owner: str) -> Self:
        """Build an object from settings as text or as TOML values.

        Args:
            settings: option name to value.
            owner: whose options these are, for messages ("sem").

        Raises:
            UserError: an unknown option, or a value outside its meaning.
        """
        hints = typing.get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cls)]
        values = {}
        for name, value in settings.items():
            if name not in names:
                raise unknown(f"option of {owner}", name, names)
            try:
                values[name] = _parse(value, hints[name])
            except (UserError, ValueError) as error:
                reason = str(error) if isinstance(error, UserError) else f"got {value!r}"
                expected = _spell(hints[name])
                raise UserError(f"{owner}.{name} takes {expected}: {reason}") from None
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{owner}.{error}") from None

    def used(self) -> dict[str, Any]:
        """Return every option with the value in force."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _check_limits(field: dataclasses.Field[Any], value: Any) -> None:
    low, high = field.metadata.get("minimum"), field.metadata.get("maximum")
    if value is None or not isinstance(value, int | float):
        return
    if not math.isfinite(value) or (low is not None and value < low):
        raise UserError(f"{field.name} must be at least {low}, got {value}")
    if high is not None and value > high:
        raise UserError(f"{field.name} must be at most {high}, got {value}")


def _spell(hint: Any) -> str:
    """Name a type as a user would: `int`, `radius`, `official|misaligned`."""
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return "|".join("none" if a is type(None) else _spell(a) for a in typing.get_args(hint))
    return str(hint.__name__).lower() if isinstance(hint, type) else str(hint)


def _parse(value: Any, hint: Any) -> Any:
    """Turn text (or a TOML value) into the option's type; ValueError where it does not fit."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        return None if value is None or value == "none" else _parse(value, inner[0])
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise ValueError(value)
        return value
    if hint is bool:
        spelled = {"true": True, "false": False, "True": True, "False": False}
        if str(value) not in spelled:
            raise ValueError(value)
        return spelled[str(value)]
    if isinstance(value, bool):
        raise ValueError(value)
    if hint is int and isinstance(value, float):
        raise ValueError(value)
    return hint(value)
