"""Measured robustness of a poison and of its surrogate: `robustness/KEY.json`.

KEY is the hash of `identity`: the poison, the attack on it, and the reference network.
"""

from unlearnable_bench.errors import UserError
from unlearnable_bench.identity import key_of
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.measurements import Measurement, Measurements, Percent


class Robustness(Measurement, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement: loss and accuracy of two networks on one poison under PGD."""

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

    def check(self) -> None:
        """Compare the poison and the radius with the identity.

        Raises:
            ValueError: they differ.
        """
        poison = self.identity.get("poison")
        if not isinstance(poison, dict) or key_of(poison) != self.poison:
            raise ValueError("its poison differs from its identity")
        try:
            same = Radius(str(self.identity.get("rho_a"))) == Radius(self.rho_a)
        except UserError as error:
            raise ValueError(str(error)) from error
        if not same:
            raise ValueError("rho_a differs from its identity")


MEASURED_ROBUSTNESS = Measurements("robustness", Robustness)
