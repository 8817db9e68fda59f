"""BatchNorm folded into the convolution before it, wherever a network is in eval mode.

A frozen BatchNorm is a scale and a shift of each channel: the convolution can do both.
The input gradient, of which noise and adversarial training take millions, then passes
fewer arrays through memory.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Convolutions of 3 channels are slow on tensor cores; of 8, the others 0, they are not.
_FEWEST_CHANNELS = 8


def folded(network: nn.Module, size: int) -> nn.Module:
    """Return the network as eval mode may compute it; shares every weight and statistic.

    One image is sent through to see who reads what. (Tracing by torch.fx would, meanwhile,
    change the modules of other threads too.) What fails on it, or has no BatchNorm right
    behind a convolution, stays as it is.

    Args:
        network: takes [N, 3, size, size].
        size: height and width of its input.
    """
    replaced: dict[nn.Module, nn.Module] = {}
    for convolution, norm in _pairs(network, size):
        replaced[convolution] = _Folded(copy.copy(convolution), copy.copy(norm))
        replaced[norm] = nn.Identity()
    return _twin(network, replaced).eval() if replaced else network


def _twin(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return a second tree of modules, with modes of its own, over the same tensors.

    Args:
        module: the root of the first.
        known: what stands for a module of the first in the second.
    """
    if module not in known:
        twin = known[module] = copy.copy(module)
        children = module._modules  # noqa: SLF001
        twin._modules = {k: child and _twin(child, known) for k, child in children.items()}  # noqa: SLF001
    return known[module]


def _pairs(network: nn.Module, size: int) -> list[tuple[nn.Module, nn.Module]]:
    """Return each convolution whose output nothing but one BatchNorm reads, and that BatchNorm."""
    seen = _Reads()
    spies = {m: _Spy(copy.copy(m), m, seen) for m in network.modules() if _may_fold(m)}
    weights = next(network.parameters(), torch.empty(0))
    image = torch.zeros(1, 3, size, size, dtype=weights.dtype, device=weights.device)
    try:
        with seen, torch.no_grad():
            _twin(network, dict(spies)).eval()(image)
    except Exception:  # whatever a stranger's network does with spies in it
        return []
    return seen.pairs()


def _may_fold(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm2d):
        return module.running_mean is not None
    return type(module) is nn.Conv2d


class _Reads(TorchDispatchMode):
    """Counts the operations that read the output of a convolution."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[nn.Module, Tensor, Tensor]] = []
        self._reads: dict[int, int] = {}

    def called(self, module: nn.Module, x: Tensor, result: Tensor) -> None:
        self._calls.append((module, x, result))  # which keeps their ids theirs
        if isinstance(module, nn.Conv2d):
            self._reads[id(result)] = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if id(leaf) in self._reads:
                self._reads[id(leaf)] += 1
        return func(*args, **(kwargs or {}))

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        modules = [module for module, _, _ in self._calls]
        once = [call for call in self._calls if modules.count(call[0]) == 1]
        convolutions = {id(y): m for m, _, y in once if self._reads.get(id(y)) == 1}
        norms = [(id(x), m) for m, x, _ in once if isinstance(m, nn.BatchNorm2d)]
        return [(convolutions[x], norm) for x, norm in norms if x in convolutions]


class _Spy(nn.Module):
    """Stands for a module; tells what went in and out."""

    def __init__(self, module: nn.Module, original: nn.Module, seen: _Reads) -> None:
        super().__init__()
        self.module, self._tell = module, (original, seen)  # a tuple: no submodule

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x)
        original, seen = self._tell
        seen.called(original, x, result)
        return result


class _Folded(nn.Module):
    def __init__(self, convolution: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, x: Tensor) -> Tensor:
        convolution, norm = self.convolution, self.norm
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.affine:
            scale = scale * norm.weight
        shift = -norm.running_mean * scale
        if norm.affine:
            shift = shift + norm.bias
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        weight = convolution.weight * scale[:, None, None, None]
        missing = _FEWEST_CHANNELS - x.shape[1]
        if x.is_cuda and missing > 0 and convolution.groups == 1:
            x = functional.pad(x, (0, 0, 0, 0, 0, missing))
            weight = functional.pad(weight, (0, 0, 0, 0, 0, missing))
        # Padding modes and all.
        result: Tensor = convolution._conv_forward(x, weight, shift)  # noqa: SLF001
        return result
