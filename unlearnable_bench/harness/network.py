"""The network that the harness hands out: images in [0, 1] to logits, in the run's precision."""

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A learner's network, its arithmetic in bf16 on request.

    Args:
        network: as the learner built it.
        bf16: compute in bf16 (autocast); weights and statistics keep their type.
        layout: memory format of images and weights.

    Attributes:
        network: as the learner built it.
        max_batch: largest batch whose input gradient is computed in one pass.
        split_batches: whether a GPU may compute large batches as two halves side by side.
    """

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
        """Return the logits [B, classes] of x, float [B, 3, H, W] in [0, 1], in its type."""
        return self.uncompiled(x)

    def uncompiled(self, x: Tensor) -> Tensor:
        """Return the same without compiling anything for it: for shapes that occur rarely."""
        x = x.contiguous(memory_format=self._layout)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
            logits: Tensor = self.network(x)
        return logits.to(x.dtype)

    def prepare(self) -> None:
        """Bring up to date what is derived from the weights; here, nothing is."""
