"""Options: the typed, documented, validated fields of a plugin's dataclass."""

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.radius import Radius

_UNIONS = (types.UnionType, typing.Union)

Scalar = str | int | float | bool | Radius | None
# One value of an option, or several values, each of which makes a variant.
Setting = Scalar | Sequence[Scalar]


def option(
    default: Any,
    summary: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    when: tuple[str, Callable[[Any], object]] | None = None,
) -> Any:
    """Declare an option of a plugin: a documented, validated field of its dataclass.

    The type is that of the annotation: int, float, bool, str, `Radius`, a Literal of texts, or
    one of these `| None`. `ubench list KIND --verbose` prints the option, and
    `--set PLUGIN.OPTION=VALUE` sets it.

    Args:
        default: the value if nothing sets the option.
        summary: its meaning as a noun phrase with the unit ("number of PGD steps").
        minimum: smallest number allowed.
        maximum: largest number allowed.
        when: the condition under which the plugin reads the option, as text and as a function of
            the plugin, such as `("kernel is cnn", lambda attack: attack.kernel == "cnn")`. A run
            that sets the option although no cell reads it is refused. None: always read.

    Returns:
        A dataclass field. Building the plugin with a number outside the limits raises a
        `UserError`.

    Examples:
        >>> from dataclasses import dataclass
        >>> from unlearnable_bench import Defense, UserError, option
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Darken(Defense):
        ...     factor: float = option(0.5, "factor of each value", minimum=0, maximum=1)
        >>> Darken().option_values()
        {'factor': 0.5}
        >>> try:
        ...     Darken(factor=2.0)
        ... except UserError as error:
        ...     print(error)
        factor must be at most 1, got 2.0
    """
    limits = {"summary": summary, "minimum": minimum, "maximum": maximum, "when": when}
    return dataclasses.field(default=default, metadata=limits)


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One option as `ubench list --verbose` prints it.

    Attributes:
        name: name of the field.
        type: type as a user writes it ("int|none", "official|misaligned").
        range: numbers allowed ("at least 1", "0 to 1"); empty: any.
        default: default as text.
        summary: meaning, and the condition under which the option is read.
    """

    name: str
    type: str
    range: str
    default: str
    summary: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configurable:
    """Base of dataclasses whose fields are options that a user can set."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_limits(field, getattr(self, field.name))

    @classmethod
    def options(cls) -> list[OptionInfo]:
        """Describe the options, in the order of the fields.

        Raises:
            UserError: a field without `option(...)`, of an unsupported type, or whose default
                has another type.
        """
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if "summary" not in field.metadata:
                raise UserError(f"{cls.__name__}.{field.name} must be declared with option(...)")
            _refuse_type(f"{cls.__name__}.{field.name}", hints[field.name], field.default)
        return [
            OptionInfo(
                f.name,
                _spell(hints[f.name]),
                _range(f),
                as_text(typing.cast("Scalar", f.default)),
                _described(f),
            )
            for f in dataclasses.fields(cls)
        ]

    @classmethod
    def configured(cls, settings: Mapping[str, Any], *, owner: str) -> Self:
        """Build an object from settings given as text or as TOML values.

        Args:
            settings: values by option name.
            owner: name of the plugin in messages ("sem").

        Raises:
            UserError: an unknown option, or a value of another type or outside its range.
        """
        hints = cls._hints(settings, owner)
        values = {
            name: _checked(value, hints[name], f"{owner}.{name}")
            for name, value in settings.items()
        }
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{owner}.{error}") from None

    @classmethod
    def variants(cls, settings: Mapping[str, Setting], *, owner: str) -> list[dict[str, Any]]:
        """Return the settings of every variant: the product of the options' values.

        Args:
            settings: values by option name, as a sequence or a comma-separated text. A comma in
                an option of type str is part of its text.
            owner: name of the plugin in messages ("jpeg").

        Returns:
            For each variant one value per option, in the option's type. The first option changes
            slowest. Equal values count once.

        Raises:
            UserError: an unknown option, or a value of another type.
        """
        hints = cls._hints(settings, owner)
        axes = []
        for name, value in settings.items():
            where, hint = f"{owner}.{name}", hints[name]
            values = [_checked(one, hint, where) for one in _values(value, hint, where)]
            # Of equal values the first stays, since a radius is printed as the user wrote it.
            axes.append([(name, one) for one in dict.fromkeys(values)])
        return [dict(chosen) for chosen in itertools.product(*axes)]

    @classmethod
    def _hints(cls, settings: Mapping[str, Any], owner: str) -> dict[str, Any]:
        """Return the types of the options, and refuse a setting that is not an option."""
        names = [info.name for info in cls.options()]
        for name in settings:
            if name not in names:
                raise unknown(f"option of {owner}", name, names)
        return typing.get_type_hints(cls)

    def option_values(self) -> dict[str, Any]:
        """Return the value of every option, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def unread(self) -> dict[str, str]:
        """Return the options that this object does not read, each with its condition."""
        conditions = {}
        for field in dataclasses.fields(self):
            when = field.metadata.get("when")
            if when and not when[1](self):
                conditions[field.name] = when[0]
        return conditions


def _range(field: dataclasses.Field[Any]) -> str:
    """Return the numbers that an option allows, as text; empty if it allows any."""
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    return "" if high is None else f"at most {high}"


def _described(field: dataclasses.Field[Any]) -> str:
    """Return an option's meaning, with the condition under which it is read."""
    when = field.metadata["when"]
    return f"{field.metadata['summary']} (if {when[0]})" if when else field.metadata["summary"]


def checked_setting(value: Any, where: str) -> Setting:
    """Return a setting from a notebook or a TOML file if its type is one that options have.

    Args:
        value: text, number, true or false, radius, None, or a list of these.
        where: name of the setting in messages ("seeds").

    Raises:
        UserError: a value of another type.
    """
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    for one in value if several else [value]:
        if not (one is None or isinstance(one, str | int | float | Radius)):
            raise UserError(
                f"{where} takes a text, a number, true, false, a radius, or a list of these, got "
                f"{one!r} of type {type(one).__name__}"
            )
    setting: Setting = value
    return setting


def as_text(value: Scalar) -> str:
    """Return a value as the command line writes it."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    return str(value)


def as_texts(value: Setting) -> str | list[str]:
    """Return one value or several as the command line writes them."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_text(one) for one in value]
    return as_text(value)


def _values(value: Setting, hint: Any, where: str) -> Sequence[Scalar]:
    """Return the values of an option; a text is split at commas unless the option is a text."""
    if not isinstance(value, str):
        values: Sequence[Scalar] = value if isinstance(value, Sequence) else [value]
    elif _inner(hint) is str:
        return [value]
    else:
        values = [part.strip() for part in value.split(",")]
    if not values or (len(values) > 1 and "" in values):
        given = ",".join(map(as_text, values))
        raise UserError(
            f"{where} takes {_spell(hint)}, or several separated by commas: got {given!r}"
        )
    return values


def _inner(hint: Any) -> Any:
    """Return the type without its `| None`."""
    if typing.get_origin(hint) not in _UNIONS:
        return hint
    return next(a for a in typing.get_args(hint) if a is not type(None))


def _checked(value: Any, hint: Any, where: str) -> Any:
    """Return a value in the option's type; an error names the option and its type."""
    try:
        return _parse(value, hint)
    except (UserError, ValueError, TypeError) as error:
        reason = str(error) if isinstance(error, UserError) else f"got {as_text(value)!r}"
        raise UserError(f"{where} takes {_spell(hint)}: {reason}") from None


def _refuse_type(name: str, hint: Any, default: Any) -> None:
    """Refuse a type that cannot be set as text, and a default of another type."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    kinds = [part for part in parts if part is not type(None)]
    literal = typing.get_origin(kinds[0]) is Literal
    allowed = (
        all(isinstance(v, str) for v in typing.get_args(kinds[0]))
        if literal
        else (kinds[0] in (int, float, bool, str, Radius))
    )
    if len(kinds) > 1 or not allowed:
        raise UserError(
            f"{name} has type {_spell(hint)}; allowed: int, float, bool, str, Radius, a Literal "
            "of texts, or one of these | None"
        )
    optional = default is None and len(parts) > 1
    fitting = (int, float) if kinds[0] is float else kinds[0]
    if default is dataclasses.MISSING or optional:
        return
    fits = default in typing.get_args(kinds[0]) if literal else isinstance(default, fitting)
    if not fits or (isinstance(default, bool) and kinds[0] is not bool):
        raise UserError(
            f"{name} has type {_spell(hint)} and default {default!r}; give a default of that type"
        )


def _check_limits(field: dataclasses.Field[Any], value: Any) -> None:
    low, high = field.metadata.get("minimum"), field.metadata.get("maximum")
    if value is None or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise UserError(f"{field.name} must be a finite number, got {value}")
    if low is not None and value < low:
        raise UserError(f"{field.name} must be at least {low}, got {value}")
    if high is not None and value > high:
        raise UserError(f"{field.name} must be at most {high}, got {value}")


def _spell(hint: Any) -> str:
    """Return the name of a type for users: `int`, `radius`, `official|misaligned`."""
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) in _UNIONS:
        return "|".join("none" if a is type(None) else _spell(a) for a in typing.get_args(hint))
    return str(hint.__name__).lower() if isinstance(hint, type) else str(hint)


def _parse(value: Any, hint: Any) -> Any:
    """Convert text or a TOML value to the option's type; ValueError if it does not fit."""
    if typing.get_origin(hint) in _UNIONS:
        return None if value is None or value == "none" else _parse(value, _inner(hint))
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
