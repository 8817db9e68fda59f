"""The network that a harness hands out: precision, layout, modes and compilation."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.optimizer import register_optimizer_step_post_hook

from unlearnable_bench.harness.capture import compile_network, current_step
from unlearnable_bench.harness.folding import Folded
from unlearnable_bench.harness.layers import any_weight, is_plain, spare


class Network(nn.Module):
    """A learner's network in channels-last layout, its arithmetic bf16 where asked.

    In train mode, and where gradients of its weights are asked for, it is the network as
    built. Else BatchNorm is folded into the convolutions: again whenever weights or
    statistics may have changed, but once for the many gradients of one step. With `plain`
    it is the network as built, in PyTorch's own layout, everywhere.

    Attributes:
        network: as the learner built it.
        at_once: the largest batch whose input gradient is computed in one pass.
        halves: whether a GPU may compute large batches as two halves side by side.
    """

    at_once: int = 1 << 30
    halves: bool = True

    def __init__(self, network: nn.Module, size: int, *, bf16: bool, plain: bool = False) -> None:
        super().__init__()
        layout = torch.contiguous_format if plain else torch.channels_last
        network = network.to(memory_format=layout)
        if not plain:
            spare(network)
        self.network = network
        weights = any_weight(network)
        dtype = torch.bfloat16 if bf16 else weights.dtype
        folded = None if plain else Folded(network, size, dtype)
        # In tuples they are no submodules: their weights are those of the network.
        self._as_built = (_InPrecision(network, layout, bf16=bf16),)
        self._multiplied = _multiplied(network) if bf16 else {}
        self._folded = (folded,) if folded and folded.layers else ()
        self._in_eval = tuple(_InPrecision(each, layout, bf16=bf16) for each in self._folded)
        self._known: object = None
        for part in (*self._as_built, *self._in_eval):
            compile_network(part, weights.device)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes] of x, float [B, 3, H, W] in [0, 1], in its type."""
        part = self._part()
        logits: Tensor = part(x, self._rounded()) if part is self._as_built[0] else part(x)
        return logits

    def uncompiled(self, x: Tensor) -> Tensor:
        """Do the same without compiling for it: for what is seldom computed."""
        return self._part().forward(x)

    def _rounded(self) -> dict[str, Tensor]:
        """Return the weights of convolutions and linear layers in bf16, where that is asked."""
        if not self._multiplied:
            return {}
        return dict(zip(self._multiplied, _Rounded.apply(*self._multiplied.values()), strict=True))

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


def _count_versions(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


# torch's fused optimizers change weights without counting versions.
register_optimizer_step_post_hook(_count_versions)


class _InPrecision(nn.Module):
    def __init__(self, network: nn.Module, layout: torch.memory_format, *, bf16: bool) -> None:
        super().__init__()
        self.network = network
        self._layout, self._bf16 = layout, bf16

    def forward(self, x: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
        x = x.contiguous(memory_format=self._layout)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
            logits = functional_call(self.network, weights, (x,)) if weights else self.network(x)
        result: Tensor = logits.to(x.dtype)
        return result


def _multiplied(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return by name the weights that nothing but bf16 arithmetic reads."""
    layers = {n: m for n, m in network.named_modules() if is_plain(m, nn.Conv2d, nn.Linear)}
    return {f"{n}.{k}": p for n, layer in layers.items() for k, p in layer.named_parameters()}


class _Rounded(torch.autograd.Function):
    """fp32 tensors in bf16, all together; autocast would launch a kernel for each."""

    @staticmethod
    def forward(_ctx: Any, *exact: Tensor) -> tuple[Tensor, ...]:
        return _copied(exact, torch.bfloat16)

    @staticmethod
    def backward(_ctx: Any, *rounded: Tensor) -> tuple[Tensor, ...]:
        return _copied(rounded, torch.float32)


def _copied(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    copies = tuple(torch.empty_like(tensor, dtype=dtype) for tensor in tensors)
    torch._foreach_copy_(copies, tensors)
    return copies
