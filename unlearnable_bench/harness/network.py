"""The networks that `Harness.network` returns, from images in [0, 1] to logits, or a part."""

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A learner's module with a memory layout, and bf16 arithmetic if asked for.

    Args:
        network: the module that the learner built.
        bf16: compute in bf16 by autocast; the type of weights and statistics does not change.
        layout: memory format of images and weights.

    Attributes:
        network: the module that the learner built.
        centred: whether its layers `learners.Normalise` subtract 0.5.
        size: height and width of its images in pixels.
        max_batch: largest batch whose input gradient is computed in one pass.
        split_batches: whether a GPU may compute large batches as two concurrent halves.
    """

    centred: bool = True
    size: int = 0
    max_batch: int = 1 << 30
    split_batches: bool = False

    def __init__(
        self,
        network: nn.Module,
        *,
        bf16: bool,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=layout)
        self._layout, self._bf16 = layout, bf16

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, float [B, classes], of x, float [B, 3, H, W] in [0, 1]."""
        return self.uncompiled(x)

    def uncompiled(self, x: Tensor) -> Tensor:
        """Return the logits without compiling the network, for shapes that occur rarely."""
        x = x.contiguous(memory_format=self._layout)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
            logits: Tensor = self.network(x)
        return logits.to(x.dtype)

    def prepare(self) -> None:
        """Update all data derived from the weights; plain networks have none."""
