"""BatchNorm folded into the preceding convolution, for networks in eval mode.

A frozen BatchNorm scales and shifts each channel, which the convolution can do itself. Input
gradients, of which noise and adversarial training compute millions, then need less memory traffic.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unlearnable_bench.fast.layers import is_batch_norm, is_plain
from unlearnable_bench.harness.layers import any_weight, twin


class Folded(nn.Module):
    """A network with folded BatchNorm, for eval mode without gradients of the weights.

    Its folded weights are copies, as of the last `refresh`. Pairs of convolution and BatchNorm
    are found by passing one image through the network, because tracing by torch.fx would change
    the modules of other threads at the same time. A network that fails on it, or that has no
    BatchNorm directly after a convolution, is not changed.

    Args:
        network: takes [N, 3, size, size]; its weights and statistics are shared.
        size: height and width of its input in pixels.
        dtype: type of the folded weights and of the inputs of their convolutions.

    Attributes:
        layers: the folded convolutions.
    """

    def __init__(self, network: nn.Module, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        pairs = _pairs(network, size)
        self._norms = [norm for _, norm in pairs]
        self._sizes = [norm.num_features for norm in self._norms]
        # The channels of all layers are folded together, since the time of small kernels is
        # proportional to their number.
        self._ones = any_weight(network).new_ones(sum(self._sizes))
        self._zeros = torch.zeros_like(self._ones)
        self._epsilon = torch.zeros_like(self._ones)
        for norm, part in zip(self._norms, self._epsilon.split(self._sizes), strict=True):
            part.fill_(norm.eps)
        self._shift = torch.zeros_like(self._ones, dtype=dtype)
        shifts = self._shift.split(self._sizes)
        self.layers = [FoldedConvolution(c, at) for (c, _), at in zip(pairs, shifts, strict=True)]
        replaced: dict[nn.Module, nn.Module] = {}
        for (convolution, norm), layer in zip(pairs, self.layers, strict=True):
            replaced |= {convolution: layer, norm: nn.Identity()}
        self.twin = twin(network, replaced).eval() if pairs else network

    def forward(self, x: Tensor) -> Tensor:
        """Compute with the weights of the last `refresh`."""
        result: Tensor = self.twin(x)
        return result

    @torch.no_grad()
    def refresh(self) -> None:
        """Fold the current weights and statistics."""
        norms = self._norms
        if not norms:
            return
        variance = self._channels([norm.running_var for norm in norms], self._ones)
        mean = self._channels([norm.running_mean for norm in norms], self._zeros)
        bias = self._channels([layer.convolution.bias for layer in self.layers], self._zeros)
        scale = (variance + self._epsilon).rsqrt()
        scale = scale * self._channels([norm.weight for norm in norms], self._ones)
        shift = self._channels([norm.bias for norm in norms], self._zeros)
        self._shift.copy_(shift + (bias - mean) * scale)
        for layer, factor in zip(self.layers, scale.split(self._sizes), strict=True):
            layer.scale(factor)

    def _channels(self, vectors: list[Tensor | None], absent: Tensor) -> Tensor:
        """Return a vector of all layers' channels; `absent` replaces missing vectors."""
        parts = zip(vectors, absent.split(self._sizes), strict=True)
        return torch.cat([default if vector is None else vector for vector, default in parts])


def _pairs(network: nn.Module, size: int) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each convolution whose output is read by one BatchNorm only, with that BatchNorm."""
    seen = _Reads()
    spies = {m: _Spy(copy.copy(m), m, seen) for m in network.modules() if _may_fold(m)}
    weights = any_weight(network)
    image = torch.zeros(1, 3, size, size, dtype=weights.dtype, device=weights.device)
    try:
        with seen, torch.no_grad():
            twin(network, dict(spies)).eval()(image)
    except Exception:  # a plugin's network may fail in any way with spies in it
        return []
    return seen.pairs()


def _may_fold(module: nn.Module) -> bool:
    if is_batch_norm(module):
        return module.running_mean is not None
    return is_plain(module, nn.Conv2d)


class _Reads(TorchDispatchMode):
    """Counts the operations that read the output of a convolution."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[nn.Module, Tensor, Tensor]] = []
        self._reads: dict[int, int] = {}

    def called(self, module: nn.Module, x: Tensor, result: Tensor) -> None:
        self._calls.append((module, x, result))  # references, so that ids are not reused
        if isinstance(module, nn.Conv2d):
            self._reads[id(result)] = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if id(leaf) in self._reads:
                self._reads[id(leaf)] += 1
        return func(*args, **(kwargs or {}))

    def pairs(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        modules = [module for module, _, _ in self._calls]
        once = [call for call in self._calls if modules.count(call[0]) == 1]
        read = [(y, m) for m, _, y in once if self._reads.get(id(y)) == 1]
        convolutions = {id(y): m for y, m in read if isinstance(m, nn.Conv2d)}
        norms = [(id(x), m) for m, x, _ in once if isinstance(m, nn.BatchNorm2d)]
        return [(convolutions[x], norm) for x, norm in norms if x in convolutions]


class _Spy(nn.Module):
    """Replaces a module and reports its input and output."""

    def __init__(self, module: nn.Module, original: nn.Module, seen: _Reads) -> None:
        super().__init__()
        # In a tuple, so that the original does not become a submodule.
        self.module, self._report_to = module, (original, seen)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x)
        original, seen = self._report_to
        seen.called(original, x, result)
        return result


class FoldedConvolution(nn.Module):
    """A convolution that includes the BatchNorm after it.

    Attributes:
        convolution: the original convolution.
        weight: its scaled weights, [out, in, k, k].
        shift: the bias, [out].
    """

    def __init__(self, convolution: nn.Conv2d, shift: Tensor) -> None:
        super().__init__()
        self.convolution, self.shift = copy.copy(convolution), shift
        weight = convolution.weight.detach().to(shift.dtype)
        self.weight = weight.clone(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised convolution of x."""
        x = x.to(self.weight.dtype)
        result: Tensor = self.convolution._conv_forward(x, self.weight, self.shift)  # noqa: SLF001
        return result

    def scale(self, factor: Tensor) -> None:
        """Set the scaled weights, with a factor [out] for each channel."""
        torch.mul(self.convolution.weight, factor[:, None, None, None], out=self.weight)
