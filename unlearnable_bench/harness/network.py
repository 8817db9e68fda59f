"""The network that a harness hands out: precision, layout, modes and compilation."""

import torch
from torch import Tensor, nn

from unlearnable_bench.harness.capture import compile_network, current_step
from unlearnable_bench.harness.folding import Folded


class Network(nn.Module):
    """A learner's network in channels-last layout, its arithmetic bf16 where asked.

    In train mode, and where gradients of its weights are asked for, it is the network as
    built. Else BatchNorm is folded into the convolutions: again whenever weights or
    statistics may have changed, but once for the many gradients of one step.

    Attributes:
        network: as the learner built it.
        at_once: the largest batch whose input gradient is computed in one pass.
    """

    at_once: int = 1 << 30

    def __init__(self, network: nn.Module, size: int, *, bf16: bool, fold: bool = True) -> None:
        super().__init__()
        self.network = network
        weights = next(network.parameters(), torch.empty(0))
        dtype = torch.bfloat16 if bf16 else weights.dtype
        folded = Folded(network, size, dtype) if fold else None
        # In tuples they are no submodules: their weights are those of the network.
        self._as_built = (_InPrecision(network, bf16=bf16),)
        self._folded = (folded,) if folded and folded.layers else ()
        self._in_eval = tuple(_InPrecision(each, bf16=bf16) for each in self._folded)
        self._known: object = None
        for part in (*self._as_built, *self._in_eval):
            compile_network(part, weights.device)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes] of x, float [B, 3, H, W] in [0, 1], in its type."""
        logits: Tensor = self._part()(x)
        return logits

    def uncompiled(self, x: Tensor) -> Tensor:
        """Do the same without compiling for it: for what is seldom computed."""
        return self._part().forward(x)

    def prepare(self) -> None:
        """Bring up to date what is derived from the weights."""
        self._part()

    def _part(self) -> "_InPrecision":
        """Return what computes now, its weights up to date."""
        differentiated = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if self.training or differentiated or not self._folded:
            self._known = None  # compiled code changes statistics without counting versions
            return self._as_built[0]
        versions = tuple(t._version for t in self.state_dict(keep_vars=True).values())  # noqa: SLF001
        known = (current_step(), versions)
        if known[0] is None or known != self._known:
            self._folded[0].refresh()
            self._known = known
        return self._in_eval[0]


class _InPrecision(nn.Module):
    def __init__(self, network: nn.Module, *, bf16: bool) -> None:
        super().__init__()
        self.network = network
        self._bf16 = bf16

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
            logits: Tensor = self.network(x)
        return logits.to(x.dtype)
