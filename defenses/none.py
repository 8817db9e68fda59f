"""Training without a defense."""

from dataclasses import dataclass

from unlearnable_bench import Defense


@dataclass(frozen=True, kw_only=True)
class NoDefense(Defense):
    """Standard training with crop and flip; PGD adversarial training if rho_a is above 0."""

    needs = "nothing"
