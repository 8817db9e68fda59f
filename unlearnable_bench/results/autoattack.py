"""Robust accuracy of a kept learner under AutoAttack: `autoattack/KEY.json`.

KEY is the hash of `identity`: the cell, its weights, the test images and the attack.
"""

from unlearnable_bench.results.measurements import Measurement, Measurements, Percent


class RobustAccuracy(Measurement, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement of a trained learner under AutoAttack."""

    cell: str
    """Key of the learner's cell."""

    rho: str
    """L-infinity radius of the attack, as the user wrote it."""

    images: int
    """Number of test images that were attacked, a seeded choice."""

    clean_accuracy: Percent
    """Accuracy in percent on these images without an attack."""

    robust_accuracy: Percent
    """Percentage of these images that no attack has misclassified."""

    after: dict[str, Percent]
    """The same after each attack, in order: `apgd-ce`, `apgd-t`, `fab-t`, `square`."""

    warnings: list[str]
    """What AutoAttack says about how far the result can be trusted."""

    seconds: float
    """Duration, of all parts if it was interrupted."""


ROBUST_ACCURACIES = Measurements("autoattack", RobustAccuracy)
