"""Momentum contrast (He et al., CVPR 2020): two encoders and a queue of earlier keys."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Harness, ImageSet
from unlearnable_bench.harness import Network, clamp_unit, frozen, sgd

View = Callable[[Tensor], Tensor]

_DIMENSIONS = 128  # of the features


class MoCo:
    """Momentum contrast with the one-sided loss and the BatchNorm of several GPUs.

    The loss of an image is the cross-entropy of its own key among those in the queue, by
    cos(query, key) / temperature ([arXiv 1911.05722](https://arxiv.org/abs/1911.05722), in the
    form of its authors' demo for CIFAR-10). The encoders are the surrogate with features as
    logits. The query's is trained; the key's weights are a moving average of its weights.

    Args:
        images: the training set.
        harness: harness of the run, before its `keep`.
        temperature: temperature of the loss.
        momentum: share of the key's weights that remains in an update, 0 to 1.
        length: number of keys in the queue, at least the number of images in a batch.
        splits: number of parts of a batch that BatchNorm normalises separately in training.
        lr: learning rate of the query's encoder.

    Attributes:
        query: encoder of queries, float [B, 3, V, V] in [0, 1] to [B, 128].
        key: encoder of keys, of the same form.
        optimizer: SGD of the query's encoder.
        queue: keys of earlier images, float [length, 128].
        place: the oldest of them, int64 scalar.
    """

    def __init__(
        self,
        images: ImageSet,
        harness: Harness,
        *,
        temperature: float,
        momentum: float,
        length: int,
        splits: int,
        lr: float,
    ) -> None:
        features = replace(images, classes=_DIMENSIONS)
        self.query = harness.network(features, centred=False)
        self.key = harness.network(features, "key", centred=False)
        self.key.requires_grad_(requires_grad=False)
        for network in (self.query, self.key):
            split_norms(network, splits)
            network.train()
        self._temperature, self._share = temperature, 1 - momentum
        self._follow(1.0)
        self.optimizer = sgd(self.query, lr=lr, weight_decay=1e-4)
        self._shuffle = harness.random("keys")
        start = harness.random("queue").normal(length, _DIMENSIONS).to(harness.dtype)
        self.queue = functional.normalize(start)
        self.place = torch.zeros((), dtype=torch.int64, device=harness.device)

    def update(self, x: Tensor, view: View) -> None:
        """Train the encoders on two views of each image, and replace the oldest keys.

        Args:
            x: images, float [B, 3, H, W] in [0, 1].
            view: augments images.
        """
        self._follow(self._share)
        queries = self._features(self.query, view(x))
        # In another order, so that a query and its key are not normalised with the same images.
        order = self._shuffle.permutation(len(x))
        with torch.no_grad():
            keys = self._features(self.key, view(x)[order])[order.argsort()]
        self.optimizer.zero_grad(set_to_none=True)
        self._loss(queries, keys).backward()
        self.optimizer.step()
        self._enqueue(keys)

    def gradient(self, x: Tensor, view: View) -> Tensor:
        """Return the gradient of the loss with respect to images, and replace the oldest keys.

        It passes through both views. The encoders are in eval mode and do not change.

        Args:
            x: images, float [B, 3, H, W], which are clamped to [0, 1].
            view: augments images; the gradient passes through it.

        Returns:
            The gradient, float [B, 3, H, W].
        """
        at = x.detach().requires_grad_()
        shown = clamp_unit(at)
        with frozen(self.query), frozen(self.key):
            queries = self._features(self.query, view(shown))
            keys = self._features(self.key, view(shown))
            gradient = torch.autograd.grad(self._loss(queries, keys), at)[0]
        self._enqueue(keys.detach())
        return gradient

    def _features(self, encoder: Network, views: Tensor) -> Tensor:
        return functional.normalize(encoder(views))

    def _loss(self, queries: Tensor, keys: Tensor) -> Tensor:
        own = (queries * keys).sum(1, keepdim=True)
        cosines = torch.cat([own, queries @ self.queue.T], 1)
        return -(cosines / self._temperature).log_softmax(1)[:, 0].mean()

    @torch.no_grad()
    def _follow(self, share: float) -> None:
        """Move the key's weights by a share of their distance to the query's."""
        for own, leading in zip(self.key.parameters(), self.query.parameters(), strict=True):
            own.mul_(1 - share).add_(leading, alpha=share)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        places = self.place + torch.arange(len(keys), device=keys.device)
        self.queue.index_copy_(0, places % len(self.queue), keys)
        self.place.add_(len(keys)).remainder_(len(self.queue))


def split_norms(network: nn.Module, splits: int) -> None:
    """Let each BatchNorm of a network normalise parts of a batch separately in train mode.

    As on several GPUs: the running statistics get the mean over the parts. Changes the layers'
    types in place.

    Args:
        network: the network.
        splits: number of parts, which divides the batches.
    """
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = _SplitBatchNorm
            assert isinstance(layer, _SplitBatchNorm)
            layer.splits = splits


class _SplitBatchNorm(nn.BatchNorm2d):
    splits: int

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if not self.training or mean is None or variance is None or self.momentum is None:
            return super().forward(x)
        parts, means, variances = [], [], []
        for part in x.chunk(self.splits):
            means.append(mean.clone())
            variances.append(variance.clone())
            parts.append(
                functional.batch_norm(
                    part, means[-1], variances[-1], self.weight, self.bias,
                    training=True, momentum=self.momentum, eps=self.eps,
                )
            )  # fmt: skip
        mean.copy_(torch.stack(means).mean(0))
        variance.copy_(torch.stack(variances).mean(0))
        return torch.cat(parts)
