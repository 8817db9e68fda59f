"""The command that reproduces a cell, from its labels and its setting."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.presets import Preset, load_preset
from unlearnable_bench.radius import Radius, norm_and_bound
from unlearnable_bench.results.names import outside_brackets

_LABELS = ("dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset")
# `fast[precision=fp32,training.epochs=2][protect_classes=cat,dog]`; class names hold anything.
_PRESET = re.compile(
    r"(?P<name>[^\[]+)"
    r"(?:\[(?P<changed>(?:training\.|adversarial\.|surrogate\.|precision=)[^\]]*)\])?"
    r"(?:\[protect_classes=(?P<classes>.*)\])?",
    re.DOTALL,
)
_OPTION = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Recipe:
    """How to reproduce a cell.

    Attributes:
        command: `ubench run` with its arguments, for a shell; without the seeds, so that replicates
            share it.
        notes: sentences on what a reader must fill in or know, such as the path of a file, which
            no record has. Empty if the command can be run unchanged.
    """

    command: str
    notes: tuple[str, ...] = ()


def command_of(row: Mapping[str, Any]) -> str:
    """Return the command that reproduces one cell.

    Args:
        row: a row of the frame of `load_records`, finished or not.
    """
    return f"{recipe_of(row).command} {seeds_of(row)}"


def seeds_of(row: Mapping[str, Any]) -> str:
    """Return the seeds of one cell as arguments of `ubench run`."""
    seed = int(row["seed"])
    noise = row.get("noise_seed")
    if noise is None or pd.isna(noise) or int(noise) == seed:
        return f"--seeds {seed}"
    return f"--noise-seeds {int(noise)} --seeds {seed}"


def recipe_of(row: Mapping[str, Any]) -> Recipe:
    """Return the command without its seeds, and notes on what it cannot express.

    Args:
        row: a row of the frame of `load_records`, finished or not. A cell that is not finished has
            only its labels.
    """
    setting = row.get("setting")
    return _recipe(
        setting if isinstance(setting, str) else "", tuple((name, row[name]) for name in _LABELS)
    )


@lru_cache(maxsize=4096)
def _recipe(setting: str, labels: tuple[tuple[str, Any], ...]) -> Recipe:
    identity = json.loads(setting) if setting else {}
    row = dict(labels)
    if identity:
        row["dataset"], row["attack"], row["preset"] = identity["labels"]
    command = _Command(row, identity)
    return Recipe(shlex.join(["ubench", "run", *command.arguments()]), tuple(command.notes))


# A folder has thousands of settings and a handful of presets.
_loaded = lru_cache(load_preset)


class _Command:
    """Builder of the arguments for one cell."""

    def __init__(self, row: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        self.notes: list[str] = []
        self._row = row
        self._identity = identity
        self._settings: dict[str, str] = {}
        self._changed = ""

    def arguments(self) -> Iterator[str]:
        """Yield the arguments; settings come last, because the other parts add to them."""
        base, classes = self._preset()
        yield from ("--dataset", self._dataset())
        yield from self._attack(base)
        yield from ("--rho-a", self._row["rho_a"])
        learner = self._named("learner")
        if base is None or learner != base.learner:
            yield from ("--learners", learner)
        defense = self._defense()
        if defense != "none":
            yield from ("--defenses", defense)
        if self._row["protect"] != 1:
            yield from ("--protect", str(self._row["protect"]))
        if classes:
            yield from ("--protect-classes", classes)
        yield from ("--preset", f"{base.name}{self._changed}" if base else self._row["preset"])
        for source in self._sources():
            yield from ("--plugin", source)
        for name, value in self._settings.items():
            yield from ("--set", f"{name}={value}")
        yield "--no-clean"

    def _preset(self) -> tuple[Preset | None, str]:
        """Return the preset and the protected classes; collect changes of its schedules."""
        label = self._row["preset"]
        found = _PRESET.fullmatch(label)
        try:
            base = _loaded(found["name"]) if found else None
        except UserError:
            base = None
        if found is None or base is None:
            self.notes.append(f"This version has no preset {label!r}.")
            return None, ""
        changed = _settings(found["changed"] or "", {})
        # Not by `--set`, which refuses what has no effect in this cell but in others of its plan.
        self._changed = f"[{found['changed']}]" if changed else ""
        self._restore_adversarial(changed)
        return base, self._classes(found["classes"] or "")

    def _restore_adversarial(self, changed: Mapping[str, str]) -> None:
        """Set options of adversarial training that `training` settings must not override.

        The label has only what differs from the preset, and `--set training.*` changes both
        schedules.
        """
        for name, used in self._identity.get("training", {}).items():
            value = changed.get(f"training.{name}")
            differs = value is not None and not _equal(value, used)
            if differs and f"adversarial.{name}" not in changed:
                self._settings[f"adversarial.{name}"] = _text(used)

    def _classes(self, text: str) -> str:
        """Return the names of classes; add a note if a command line cannot express them."""
        names = text.split(",") if text else []
        count = len(self._identity.get("protection", {}).get("classes", names))
        if len(names) != count or any(name != name.strip() for name in names):
            self.notes.append(
                "The name of a protected class has a comma or a space at its end; give the names "
                "as a list in a plan file (protect-classes)."
            )
        return text

    def _dataset(self) -> str:
        name, inside = _split(self._row["dataset"])
        kind, colon, _ = name.partition(":")
        self._add(kind, inside)
        if not colon:
            return name
        self.notes.append(f"PATH: the file or folder of {name}, whose path is not recorded.")
        return f"{kind}:PATH"

    def _attack(self, base: Preset | None) -> Iterator[str]:
        poison = self._identity.get("poison", {})
        label = self._row["attack"]
        if label == "remainder":
            label = "clean"
        attack = poison.get("attack") or {"name": label.partition("[")[0]}
        name, used = attack["name"], attack.get("options", {})
        own = label == name or label.startswith(f"{name}[")
        row, inside = (name, label[len(name) + 1 : -1]) if own else _split(label)
        passed = _settings(inside, used)
        surrogate = poison.get("surrogate", {}).get("name") if poison else None
        if "surrogate" in passed:
            surrogate, inside = _split(passed.pop("surrogate"))
            self._add(surrogate, inside)
        named = "fingerprint" in attack and "path" not in used
        yield from ("--methods", f"{row}={name}:PATH" if named else name)
        if named:
            self.notes.append(f"PATH: a file with the SHA-256 {attack['fingerprint']}.")
        if surrogate and (base is None or surrogate != base.surrogate):
            yield from ("--surrogate", surrogate)
        radius = self._radius(name, used)
        if radius:
            yield from ("--rho-u", radius)
        self._settings |= {f"{name}.{key}": value for key, value in passed.items()}
        if "path" in passed and "fingerprint" in attack:
            self.notes.append(f"{passed['path']} must have the SHA-256 {attack['fingerprint']}.")

    def _radius(self, name: str, used: Mapping[str, Any]) -> str:
        """Return the radius of the noise, as the user wrote it if known."""
        shown = self._row["rho_u"] if isinstance(self._row["rho_u"], str) else ""
        if not self._identity:
            return shown if name != "clean" and norm_and_bound(shown)[0] == "linf" else ""
        asked = used.get("rho_u")
        if asked is None:
            return ""
        return shown if _is_radius(shown) and Radius(shown) == Radius(asked) else str(asked)

    def _named(self, kind: str) -> str:
        """Return the name of the learner, and note its options."""
        used = self._identity.get(kind, {}).get("options", {})
        name, inside = _split(self._row[kind])
        self._add(name, inside, used)
        return name

    def _defense(self) -> str:
        defense = self._identity.get("defense", {})
        used = defense.get("options", {})
        labels = outside_brackets(self._row["defense"], "+")
        parts = used.get("parts", [defense] * len(labels))
        names = []
        for label, part in zip(labels, parts, strict=True):
            name, inside = _split(label)
            self._add(name, inside, part.get("options", {}))
            names.append(name)
        return "+".join(names)

    def _sources(self) -> Iterator[str]:
        """Yield a placeholder for each plugin file that the cell used."""
        sources = dict(_found_sources(self._identity))
        for number, (digest, names) in enumerate(sources.items(), start=1):
            place = "PLUGIN.py" if len(sources) == 1 else f"PLUGIN{number}.py"
            self.notes.append(f"{place}: the file with {names}, SHA-256 {digest}.")
            yield place

    def _add(self, section: str, inside: str, used: Mapping[str, Any] = {}) -> None:
        self._settings |= {f"{section}.{k}": v for k, v in _settings(inside, used).items()}


def _found_sources(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each plugin file, with the names of its plugins."""
    defense = identity.get("defense", {})
    poison = identity.get("poison", {})
    plugins: Sequence[Mapping[str, Any]] = [
        poison.get("attack", {}),
        poison.get("surrogate", {}),
        identity.get("learner", {}),
        *defense.get("options", {}).get("parts", [defense]),
    ]
    found: dict[str, list[str]] = {}
    for plugin in plugins:
        if "source" in plugin:
            found.setdefault(plugin["source"], []).append(plugin["name"])
    return {digest: " and ".join(dict.fromkeys(names)) for digest, names in found.items()}


def _split(label: str) -> tuple[str, str]:
    """Return `sem` and `steps=5` of `sem[steps=5]`; a file's name may hold brackets: `a[1]`."""
    if not label.endswith("]"):
        return label, ""
    depth = 0
    for place in range(len(label) - 1, -1, -1):
        depth += (label[place] == "]") - (label[place] == "[")
        if not depth and _OPTION.match(label, place + 1):
            return label[:place], label[place + 1 : -1]
    return label, ""


def _settings(inside: str, used: Mapping[str, Any]) -> dict[str, str]:
    """Return the options in a label's brackets as `--set` takes them.

    Args:
        inside: `lr=0.1,steps=5`.
        used: every option and its value, from the identity; it shows where a text with commas
            ends.
    """
    found: dict[str, str] = {}
    while inside:
        name, _, rest = inside.partition("=")
        exact = str(used.get(name))
        if name in used and (rest == exact or rest.startswith(f"{exact},")):
            value = exact
        else:
            value = (outside_brackets(rest, ",") or [""])[0]
        inside = rest[len(value) + 1 :]
        found[name] = "none" if value == "None" and used.get(name) is None else value
    return found


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _equal(text: str, used: Any) -> bool:
    """Return whether a user's text equals the value that was used."""
    if isinstance(used, bool) or not isinstance(used, int | float):
        return text.lower() == _text(used).lower()
    try:
        return float(text) == used
    except ValueError:
        return False


def _is_radius(text: str) -> bool:
    try:
        Radius(text)
    except UserError:
        return False
    return True
