"""The schema of a record: one finished cell, as it stands in `cells/KEY.json`."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.radius import Radius

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that is known of one finished cell."""

    format: int
    """Version of this schema."""

    key: str
    """SHA-256 (first 32 digits) of `identity`; also the file's name."""

    identity: dict[str, Any]
    """All that determines the result: data, attack, learner, defense, schedule, seed, versions."""

    dataset: str
    """Name of the data set."""

    attack: str
    """Label of the attack: its name, and in brackets what the user changed."""

    learner: str
    """Label of the learner."""

    defense: str
    """Label of the defense."""

    rho_a: str
    """Radius of adversarial training, as the user wrote it."""

    rho_u: str
    """Radius of the noise that the poison promises (L-infinity), or `l2 NUMBER`."""

    protect: float
    """Share of the training images (of the protected classes) that are poisoned."""

    preset: str
    """Label of the preset: its name, and in brackets what the user changed."""

    seed: int
    """Seed of the noise and of the training."""

    test_accuracy: float
    """Accuracy in percent on clean test images after the last step, or the chosen epoch."""

    protected_accuracy: float | None = None
    """The same on the test images of the protected classes; null where all are protected."""

    peak_accuracy: float
    """Highest of `epoch_accuracy`: what an early-stopping trainer could reach."""

    epoch_accuracy: list[float]
    """Clean test accuracy in percent after each epoch."""

    train_accuracy: float
    """Accuracy in percent on the poisoned training images, after the last step."""

    poison: dict[str, Any]
    """Of the poison: `key`, `sha256`, `budget`, `notes`, `seconds`, `warmup_seconds`, `resumed`."""

    seconds: dict[str, float]
    """`preparation` (of the images by the defense; in `training` before it was a part of its own),
    `training`, `warmup` (compilation and capture) and `evaluation`, apart."""

    resumed: bool
    """Whether training was interrupted: `seconds` then add up what counted of each part."""

    peak_memory: int
    """Highest memory in bytes: of the GPU's allocator, or of the process on a CPU."""

    packed: int = 1
    """Cells that shared the device: where more than one, `seconds` and `peak_memory` are shared."""

    environment: dict[str, Any]
    """Package versions, device, driver, git revision of the code."""

    created: str
    """When the cell was finished, UTC, ISO 8601."""

    @property
    def setting(self) -> str:
        """All that determines the result but the seed, as JSON: equal for replicates."""
        poison = {name: value for name, value in self.identity["poison"].items() if name != "seed"}
        return json.dumps(self.identity | {"poison": poison}, sort_keys=True)

    def to_json(self) -> str:
        """Return the file's text."""
        return (
            json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read a record.

        Raises:
            ValueError: not JSON, or not of this schema; says how.
        """
        raw = json.loads(text, parse_constant=_refuse_constant)
        if not isinstance(raw, dict):
            raise ValueError("holds no object")
        if raw.get("format") != FORMAT:
            raise ValueError(f"has format {raw.get('format')!r}, this version reads {FORMAT}")
        hints = typing.get_type_hints(cls)
        needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        if not needed <= raw.keys() <= hints.keys():
            odd = ", ".join(sorted((needed - raw.keys()) | (raw.keys() - hints.keys())))
            raise ValueError(f"missing or unexpected: {odd}")
        for name, value in raw.items():
            _check(name, value, hints[name])
        for name, keys in _INSIDE.items():
            missing = keys - raw[name].keys()
            if missing:
                raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
        _check_meaning(raw)
        return cls(**raw)


# What reports read inside the fields that are objects.
_INSIDE = {
    "identity": {"poison"},
    "poison": {"key", "sha256", "budget", "seconds"},
    "seconds": {"training", "warmup", "evaluation"},
    "environment": {"device"},
}


def _check_meaning(raw: dict[str, Any]) -> None:
    _check("identity.poison", raw["identity"]["poison"], dict[str, Any])
    _check("environment.device", raw["environment"]["device"], str)
    if raw["identity"]["poison"].get("seed") != raw["seed"]:
        raise ValueError("seed is not that of its identity")
    shares = raw["test_accuracy"], raw["peak_accuracy"], raw["train_accuracy"]
    if not all(0 <= share <= 100 for share in (*shares, *raw["epoch_accuracy"])):
        raise ValueError("an accuracy lies outside 0 to 100")
    norm, _, number = raw["rho_u"].partition(" ")
    if norm == "l2":
        float(number)
    for name in ("rho_a",) if norm == "l2" else ("rho_a", "rho_u"):
        try:
            Radius(raw[name])
        except UserError as error:
            raise ValueError(f"{name}: {error}") from None


def _check(name: str, value: Any, hint: Any) -> None:
    if typing.get_origin(hint) is types.UnionType:
        if value is None:
            return
        hint = typing.get_args(hint)[0]
    kind = typing.get_origin(hint) or hint
    accepted = (int, float) if kind is float else (kind,)
    fits = isinstance(value, accepted)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is no {kind.__name__}")
    inside = typing.get_args(hint)
    if inside and inside[-1] is not Any:
        for item in value.values() if kind is dict else value:
            _check(f"an item of {name}", item, inside[-1])


def _refuse_constant(text: str) -> None:
    raise ValueError(f"holds {text}")
