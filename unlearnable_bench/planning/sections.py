"""The `--set` values of a plan by section: a plugin's name, or one of the schedules."""

from collections.abc import Mapping
from typing import Any

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.options import Configurable, Setting, as_text, checked_setting
from unlearnable_bench.planning import registry

_FLAGS = {
    "attacks": "--methods",
    "defenses": "--defenses",
    "learners": "--learners",
    "datasets": "--dataset",
}


class Sections:
    """The `--set` values by section; a section that nothing takes is refused."""

    def __init__(self, values: dict[str, dict[str, Setting]]) -> None:
        self._values = values
        self._taken: set[str] = set()

    def take(
        self, name: str, owner: type[Configurable], usual: Mapping[str, Setting] = {}
    ) -> list[dict[str, Any]]:
        """Return the settings of each variant of a section, which override `usual`."""
        self._taken.add(name)
        return owner.variants({**usual, **self._values.get(name, {})}, owner=name)

    def refuse_rest(self) -> None:
        """Raise a UserError if nothing took a section."""
        for name, values in self._values.items():
            if name not in self._taken:
                option = f"--set {name}.{next(iter(values))}"
                for kind, flag in _FLAGS.items():
                    if name in registry.REGISTRIES[kind].names():
                        raise UserError(f"{option}: {name} is not in this plan; name it in {flag}")
                raise UserError(f"{option}: {unknown('part of this plan', name, self._taken)}")


def sections_of(settings: Mapping[str, Setting]) -> Sections:
    """Return settings such as `{"sem.steps": 2000}` by section."""
    if not isinstance(settings, Mapping):
        raise UserError(f"make_plan(settings=...) takes a dict of options, got {settings!r}")
    values: dict[str, dict[str, Setting]] = {}
    for key, value in settings.items():
        section, dot, name = str(key).partition(".")
        if not (dot and section and name):
            raise UserError(
                f"--set {key}={value}: write SECTION.OPTION=VALUE, such as sem.steps=2000"
            )
        values.setdefault(section, {})[name] = checked_setting(value, key)
    return Sections(values)


def single(name: str, variants: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of a section without variants; refuse several values of an option."""
    first, last = variants[0], variants[-1]
    for option in first if len(variants) > 1 else ():
        if first[option] != last[option]:
            values = f"{as_text(first[option])} and {as_text(last[option])}"
            raise UserError(
                f"--set {name}.{option} takes one value per run, got {values}; run once with each, "
                "in the same results folder (--out) if you like"
            )
    return first
