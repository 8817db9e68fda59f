"""Stable error-minimizing noise."""

from dataclasses import dataclass

from unlearnable_bench import option
from unlearnable_bench.attacks.rem import PERTURBATION_SUMMARY, REM, Perturbation


@dataclass(frozen=True, kw_only=True)
class SEM(REM):
    """Stable error-minimizing noise (Liu et al., AAAI 2024).

    REM with decoupled phases ([arXiv 2311.13091](https://arxiv.org/abs/2311.13091)): the noise
    is optimised against random perturbations, drawn from U(-rho_a, rho_a) for each value and
    EOT sample, the surrogate against adversarial ones as in REM.
    """

    needs = "labels"

    perturbation: Perturbation = option("uniform", PERTURBATION_SUMMARY)
