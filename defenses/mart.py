"""MART."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Defense, option


@dataclass(frozen=True, kw_only=True)
class MART(Defense):
    """MART: adversarial training with more weight on misclassified images.

    Misclassification-aware adversarial training
    ([Wang et al., ICLR 2020](https://openreview.net/forum?id=rklOg6EFwS)). PGD maximises the
    cross-entropy from a uniform start; the authors' code starts from Gaussian noise of standard
    deviation 0.001. Both passes of the loss are in train mode, so BatchNorm statistics are
    updated with x and with x'.
    """

    needs = "labels"

    adversarial_only: ClassVar[bool] = True

    beta: float = option(
        5.0,
        "weight of the KL divergence in the loss; 5 in the authors' ResNet-18 script",
        minimum=0,
    )

    def loss(self, model: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
        """Return BCE(f(x'), y) + beta KL(p(x) || p(x')) (1 - p_y(x)), means over the batch.

        BCE is CE(f(x'), y) - log(1.0001 - p_k(x')), where k is the most probable class other
        than y. The label of a smoothed or mixed target is the class of its largest entry; the
        cross-entropy uses the whole target.
        """
        logits = model(x)
        if perturbed is x:
            return functional.cross_entropy(logits, y)
        logits_adversarial = model(perturbed)
        label = y.argmax(1, keepdim=True)
        # 1.0001, as in the authors' code, keeps the loss finite at a probability of 1.
        other = logits_adversarial.softmax(1).scatter(1, label, 0).amax(1)
        margin: Tensor = -(1.0001 - other).log().mean()
        divergence = functional.kl_div(
            logits_adversarial.log_softmax(1),
            logits.log_softmax(1),
            reduction="none",
            log_target=True,
        ).sum(1)
        weight: Tensor = 1 - logits.softmax(1).gather(1, label).squeeze(1)
        boosted = functional.cross_entropy(logits_adversarial, y) + margin
        return boosted + self.beta * (divergence * weight).mean()
