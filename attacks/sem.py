"""Stable error-minimizing noise."""

from dataclasses import dataclass

from unlearnable_bench import option
from unlearnable_bench.attacks.rem import REM, Perturbation


@dataclass(frozen=True, kw_only=True)
class SEM(REM):
    """Stable error-minimizing noise (Liu et al., AAAI 2024).

    REM with its two phases decoupled: the noise is trained against random
    perturbations, U(-rho_a, rho_a) for each value and EOT sample; the surrogate
    still against adversarial ones.
    """

    perturbation: Perturbation = option(
        "uniform", "perturbation of the views when the noise is optimised"
    )
