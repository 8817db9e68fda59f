"""Early stopping."""

from dataclasses import dataclass

from unlearnable_bench import Defense, option


@dataclass(frozen=True, kw_only=True)
class EarlyStopping(Defense):
    """Early stopping: use the epoch with the best accuracy on held-out clean images.

    Networks learn real features and poisons at different times, so an earlier epoch may be
    better than the last one ([Sandoval-Segura et al. 2022](https://arxiv.org/abs/2204.08615)).
    The learner needs some clean labelled images for this.
    """

    needs = "clean subset"

    share: float = option(
        0.02,
        "share of the training images that are held out without poison",
        minimum=1e-3,
        maximum=0.9,
    )

    def validation_share(self) -> float:
        """Return the option `share`."""
        return self.share
