"""The key of a result: a hash of everything that determines it."""

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.radius import Radius


def key_of(identity: dict[str, Any]) -> str:
    """Return the key of an identity: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:32]


def network_key(
    poison: Mapping[str, Any], training: Mapping[str, Any], rho_a: Radius, seed: int
) -> str:
    """Return the address of a surrogate trained on the clean images.

    Args:
        poison: identity of a poison whose method has a surrogate: protocol, data, transform,
            surrogate and precision count.
        training: options of the schedule.
        rho_a: radius of adversarial training; 0 is standard training.
        seed: seed of the training.
    """
    identity = {name: poison[name] for name in ("protocol", "data", "transform", "precision")}
    identity |= {"network": poison["surrogate"], "training": training, "seed": seed}
    return key_of(identity | ({"rho_a": rho_a} if rho_a else {}))


def as_json(identity: dict[str, Any]) -> dict[str, Any]:
    """Return an identity in JSON's own types, as records store it."""
    plain: dict[str, Any] = json.loads(canonical(identity))
    return plain


def canonical(value: Any) -> str:
    """Return JSON with sorted keys, in which equal radii are equal however they were written."""
    return _ENCODER.encode(value)


def _exact(value: Any) -> str:
    if isinstance(value, Radius):
        return str(Fraction(value.value))
    raise UserError(
        f"{value!r} of type {type(value).__name__} cannot be part of a key; options and seeds are "
        "int, float, bool, str or Radius"
    )


_ENCODER = json.JSONEncoder(sort_keys=True, default=_exact, separators=(",", ":"))
