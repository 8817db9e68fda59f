"""Measured robustness of a poison and of its surrogate: `robustness/KEY.json`.

KEY is the hash of `identity`: the poison, the attack on it, and the reference network.
"""

from pathlib import Path
from typing import Annotated, Any

import msgspec

from unlearnable_bench.errors import UserError
from unlearnable_bench.identity import key_of
from unlearnable_bench.radius import Radius
from unlearnable_bench.storage.damage import note, set_aside
from unlearnable_bench.storage.files import NotRegularError, read_bytes, write_text
from unlearnable_bench.storage.seal import sealed_json, unsealed_json

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
    """Return whether a results folder has the measurement, whole."""
    try:
        _read(_path(folder, key))
    except (ValueError, OSError):
        return False
    return True


def settle_robustness(folder: Path, key: str) -> bool:
    """Return whether a measurement is finished; a damaged one is set aside. Needs the claim.

    Raises:
        UserError: it cannot be read or moved.
    """
    path = _path(folder, key)
    try:
        _read(path)
    except FileNotFoundError:
        return False
    except NotRegularError as error:
        set_aside(path, error.strerror, "it is measured again")
        return False
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({_reason(error)}); check its permissions"
        ) from error
    except ValueError as error:
        set_aside(path, error, "it is measured again")
        return False
    return True


def write_robustness(folder: Path, measurement: Robustness) -> None:
    """Write a measurement unless it exists.

    Raises:
        ValueError: a number that is not finite.
    """
    fields = msgspec.structs.asdict(measurement)
    text = sealed_json(fields)
    _DECODER.decode(unsealed_json(text.encode())[0])
    path = _path(folder, measurement.key)
    if not path.exists():
        write_text(path, text)


def read_robustness(folder: Path) -> list[Robustness]:
    """Return every measurement of a results folder, the oldest first.

    Damaged ones are noted (`damage.note`) and left out.
    """
    found = []
    for path in sorted((folder / "robustness").glob("[!.]*.json")):
        try:
            found.append(_read(path))
        except (ValueError, OSError) as error:
            note(f"{path} is damaged ({_reason(error)}); it is left out")
    return sorted(found, key=lambda one: (one.created, one.key))


def _read(path: Path) -> Robustness:
    """Read and check a measurement.

    Raises:
        ValueError: it is damaged, and why.
        OSError: it cannot be read.
    """
    try:
        measurement = _DECODER.decode(unsealed_json(read_bytes(path))[0])
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if measurement.format != FORMAT:
        raise ValueError(f"has format {measurement.format}, this version reads {FORMAT}")
    if not path.stem == measurement.key == key_of(measurement.identity):
        raise ValueError(f"its key is {measurement.key}")
    poison = measurement.identity.get("poison")
    if not isinstance(poison, dict) or key_of(poison) != measurement.poison:
        raise ValueError("its poison differs from its identity")
    try:
        same = Radius(str(measurement.identity.get("rho_a"))) == Radius(measurement.rho_a)
    except UserError as error:
        raise ValueError(str(error)) from error
    if not same:
        raise ValueError("rho_a differs from its identity")
    return measurement


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _path(folder: Path, key: str) -> Path:
    return folder / "robustness" / f"{key}.json"
