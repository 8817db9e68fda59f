"""Deep feature reweighting."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from unlearnable_bench import Defense, Harness, ImageSet, UserError, option
from unlearnable_bench.harness import Network, central_view


@dataclass(frozen=True, kw_only=True)
class DeepFeatureReweighting(Defense):
    """Deep feature reweighting: refit the last layer on held-out clean images after training.

    BatchNorm normalises by the statistics of these images, which are not trained on otherwise. It
    shows whether a network trained on a poison has learned useful features
    ([Sandoval-Segura et al., NeurIPS 2023](https://arxiv.org/abs/2305.19254), after
    [Kirichenko et al. 2023](https://arxiv.org/abs/2204.02937)).
    """

    version: ClassVar[str] = "2"  # version 1 kept the statistics of the poisoned images

    needs = "clean subset"

    share: float = option(
        0.1,
        "share of the training images that are held out without poison",
        minimum=1e-3,
        maximum=0.9,
    )
    weight_decay: float = option(
        1e-3, "weight of the squared weights of standardised features", minimum=0
    )

    statistics: Literal["clean", "poisoned"] = option(
        "clean",
        "images whose statistics BatchNorm normalises by: the held-out clean ones, or the poisoned "
        "ones of training",
    )

    def check(self, images: ImageSet) -> None:
        """Refuse fewer held-out images than classes.

        Raises:
            UserError: names both numbers.
        """
        held_out = self.held_out_count(len(images))
        if held_out < images.classes:
            raise UserError(
                f"deep-feature-reweighting.share={self.share:g} holds out {held_out:,} of "
                f"{len(images):,} images, fewer than there are classes ({images.classes}); raise it"
            )

    def validation_share(self) -> float:
        """Return the option `share`."""
        return self.share

    def chooses_epoch(self) -> bool:
        """Return false: the last epoch is used."""
        return False

    def refit(self, model: Network, held_out: ImageSet, harness: Harness) -> bool:
        """Replace the last linear layer by a logistic regression on its inputs.

        Raises:
            UserError: a learner without linear layers.
        """
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise UserError(
                "deep-feature-reweighting refits the last linear layer, the learner has none; use "
                "another learner"
            )
        images, labels = harness.tensors(held_out)
        images = central_view(images, harness.transform)
        if self.statistics == "clean":
            renew_statistics(model, images, harness)
        features = inputs_of(layers[-1], model, images, harness)
        weight, bias = logistic_regression(features, labels, held_out.classes, self.weight_decay)
        with torch.no_grad():
            layers[-1].weight.copy_(weight)
            if layers[-1].bias is not None:
                layers[-1].bias.copy_(bias)
        return True


@torch.no_grad()
def renew_statistics(model: Network, images: Tensor, harness: Harness, batch: int = 1000) -> None:
    """Replace the running statistics of each BatchNorm by the means over batches of some images.

    Args:
        model: maps images in [0, 1] to logits.
        images: images, uint8 [N, 3, H, W].
        harness: the harness of the model.
        batch: number of images in a batch at most; batches are nearly equal.
    """
    training = model.training
    model.eval()
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    if norms and len(images) > 1:
        for part in images.chunk(-(-len(images) // batch)):
            model.uncompiled(harness.unit(part))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    model.train(training)


@torch.no_grad()
def inputs_of(
    layer: nn.Module, model: Network, images: Tensor, harness: Harness, batch: int = 1000
) -> Tensor:
    """Return the inputs of a layer for each image in eval mode, float64 [N, D].

    Args:
        layer: a layer of the model that is called once.
        model: maps images in [0, 1] to logits.
        images: images, uint8 [N, 3, H, W].
        harness: the harness of the model.
        batch: number of images in a batch.
    """
    found: list[Tensor] = []
    training = model.training
    handle = layer.register_forward_pre_hook(lambda _, given: found.append(given[0].double()))
    model.eval()
    for part in images.split(batch):
        model.uncompiled(harness.unit(part))
    handle.remove()
    model.train(training)
    return torch.cat(found)


def logistic_regression(
    features: Tensor, labels: Tensor, classes: int, weight_decay: float
) -> tuple[Tensor, Tensor]:
    """Return weights [C, D] and bias [C] with the least cross-entropy on standardised features.

    Args:
        features: float64 [N, D].
        labels: int64 [N].
        classes: number of classes C.
        weight_decay: factor of the mean squared norm of the weights of standardised features.
    """
    mean, std = features.mean(0), features.std(0, correction=0)
    scale = torch.where(std > 0, std, 1)
    standard = (features - mean) / scale
    weight = features.new_zeros(classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=200,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = functional.cross_entropy(standard @ weight.T + bias, labels)
        total = total + weight_decay * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    weight, bias = weight.detach() / scale, bias.detach()
    return weight, bias - weight @ mean
