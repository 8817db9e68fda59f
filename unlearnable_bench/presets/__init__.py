"""Presets: schedules as data, one TOML file each."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from unlearnable_bench.errors import UserError, unknown


@dataclass(frozen=True)
class Preset:
    """The defaults of a run.

    Attributes:
        name: file name without the suffix.
        summary: one line for `ubench list presets`.
        dataset: name of the data set.
        learner: name of the architecture that is trained on the poison.
        surrogate: name of the architecture of the surrogate.
        precision: `bf16`, `fp32` or `fp64`.
        training: options of `Training`.
        adversarial: options of `Training` that differ in adversarial training.
        surrogate_training: options of `Training` that differ for surrogates trained on clean
            images.
        attacks: options by attack, or by attack and what the user must have set for them to hold,
            as tables name the row: `em[variant=misaligned]`.
        defenses: options by defense.
        caveat: sentence below each table of its accuracies, such as how far they are from those
            of a longer schedule; empty for none.
    """

    name: str
    summary: str
    dataset: str
    learner: str
    surrogate: str
    precision: str
    training: dict[str, Any]
    adversarial: dict[str, Any] = field(default_factory=dict)
    surrogate_training: dict[str, Any] = field(default_factory=dict)
    attacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    defenses: dict[str, dict[str, Any]] = field(default_factory=dict)
    caveat: str = ""

    def options_of(self, attack: str, passed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of an attack.

        Args:
            attack: name of the attack.
            passed: options that the user set.
        """
        options: dict[str, Any] = {}
        for section, values in self.attacks.items():
            name, _, inside = section.rstrip("]").partition("[")
            needed = dict(setting.split("=") for setting in inside.split(",") if setting)
            given = {option: str(passed.get(option)) for option in needed}
            if name == attack and given == needed:
                options |= values
        return options


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    files = resources.files(__name__).iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def default_preset(device: str | None = None) -> str:
    """Return the preset of a run that names none: `fast` on a GPU, otherwise `smoke`.

    Args:
        device: type of the run's device, "cuda" or "cpu"; None: CUDA if available.
    """
    if device is None:
        import torch  # noqa: PLC0415 - `ubench list` does not wait for it

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return "fast" if device == "cuda" else "smoke"


def split_label(label: str) -> tuple[str, dict[str, str]]:
    """Split the label of a preset with changed schedules, as tables print it.

    Args:
        label: such as `fast[adversarial.epochs=6,precision=fp32]`, or a name.

    Returns:
        The name, and the settings, e.g. `{"adversarial.epochs": "6", "precision": "fp32"}`.

    Raises:
        UserError: brackets with something else than settings.
    """
    name, bracket, inside = label.partition("[")
    if not bracket:
        return label, {}
    parts = [part.partition("=") for part in inside.removesuffix("]").split(",")]
    if not inside.endswith("]") or not all(key and value for key, _, value in parts):
        raise UserError(
            f"--preset {label}: write NAME or NAME[OPTION=VALUE,...], such as "
            "fast[training.epochs=10]"
        )
    return name, {key: value for key, _, value in parts}


def load_preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        UserError: an unknown preset.
    """
    if name not in preset_names():
        raise unknown("preset", name, preset_names())
    text = (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    return Preset(name=name, **tomllib.loads(text))
