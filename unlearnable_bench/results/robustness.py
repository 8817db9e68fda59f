"""Measured robustness of a poison and of its surrogate: `robustness/KEY.json`.

KEY is the hash of `identity`: the poison, the attack on it, and the reference network.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec

from unlearnable_bench.errors import UserError
from unlearnable_bench.files import write_text
from unlearnable_bench.identity import key_of

FORMAT = 1
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Robustness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement: loss and accuracy of two networks on one poison under PGD."""

    format: int
    """Version of this schema."""

    key: str
    """SHA-256 (first 32 digits) of `identity`; also the file's name."""

    identity: dict[str, Any]
    """Everything that determines the result."""

    poison: str
    """Key of the poison."""

    rho_a: str
    """Radius of the attack, as the user wrote it."""

    surrogate_loss: float
    """Mean cross-entropy of the poison's own final surrogate, under PGD."""

    surrogate_accuracy: Percent
    """Its accuracy in percent, under PGD."""

    noise_loss: float
    """Mean cross-entropy of the reference network, the same for every noise, under PGD."""

    noise_accuracy: Percent
    """Its accuracy in percent, under PGD."""

    seconds: dict[str, float]
    """`work`, and separately `warmup`."""

    environment: dict[str, Any]
    """Package versions, device, driver, git revision of the code."""

    created: str
    """When it was measured, UTC, ISO 8601."""


_DECODER = msgspec.json.Decoder(Robustness)


def has_robustness(folder: Path, key: str) -> bool:
    """Return whether a results folder has the measurement."""
    return _path(folder, key).exists()


def write_robustness(folder: Path, measurement: Robustness) -> None:
    """Write a measurement unless it exists.

    Raises:
        ValueError: a number that is not finite.
    """
    fields = msgspec.structs.asdict(measurement)
    text = json.dumps(fields, indent=1, sort_keys=True, allow_nan=False) + "\n"
    _DECODER.decode(text.encode())
    path = _path(folder, measurement.key)
    if not path.exists():
        write_text(path, text)


def read_robustness(folder: Path) -> list[Robustness]:
    """Return every measurement of a results folder, the oldest first.

    Raises:
        UserError: one is damaged.
    """
    found = []
    for path in sorted((folder / "robustness").glob("[!.]*.json")):
        try:
            measurement = _DECODER.decode(path.read_bytes())
            if measurement.format != FORMAT:
                raise ValueError(f"has format {measurement.format}, this version reads {FORMAT}")
            if not path.stem == measurement.key == key_of(measurement.identity):
                raise ValueError(f"its key is {measurement.key}")
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}); move it away and run `ubench correlate` again"
            ) from error
        found.append(measurement)
    return sorted(found, key=lambda one: (one.created, one.key))


def _path(folder: Path, key: str) -> Path:
    return folder / "robustness" / f"{key}.json"
