"""Early stopping."""

from dataclasses import dataclass

from unlearnable_bench import Defense, option


@dataclass(frozen=True, kw_only=True)
class EarlyStopping(Defense):
    """Keep the epoch that is best on held-out clean images, instead of the last.

    Poisons are often learned after real features and forgotten before them, so that some
    epoch is better than the last (Sandoval-Segura et al. 2022, "Poisons that are learned
    faster are more effective"). The trainer needs some clean labelled images for this.
    """

    share: float = option(
        0.02, "of the training images, held out clean instead of being trained on",
        minimum=0, maximum=0.9,
    )  # fmt: skip

    def validation_share(self) -> float:
        """Return the share."""
        return self.share
