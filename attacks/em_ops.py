"""One-pixel shortcuts on top of error-minimizing noise."""

from dataclasses import dataclass

from unlearnable_bench import Budget, Harness, ImageSet, Poison, option
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.ops import check_sparsity, marked


@dataclass(frozen=True, kw_only=True)
class EMOPS(EM):
    """EM, then a one-pixel shortcut on top: CIFAR-10-S of the OPS paper (Wu et al., ICLR 2023).

    The pixels and colours are those of `ops`, chosen by the clean images, and set in the images
    with EM's noise ([arXiv 2205.12141](https://arxiv.org/abs/2205.12141)). All pixels but these
    stay within `rho_u`; these may change by the whole range, so that no single norm bounds it.
    """

    needs = "labels"

    sparsity: int = option(1, "number of pixels set in an image", minimum=1)

    def check(self, images: ImageSet) -> None:
        """Refuse what EM refuses, and more pixels than an image has.

        Raises:
            UserError: names what is allowed.
        """
        super().check(images)
        check_sparsity("em-ops", self.sparsity, images)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Make EM's noise, then set the chosen pixels of each class to their colours."""
        noisy = super().generate(images, harness)
        return Poison(marked(images, noisy.images, self.sparsity), Budget("none"), noisy.notes)
