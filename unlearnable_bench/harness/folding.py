"""BatchNorm folded into the convolution before it, wherever a network is in eval mode.

A frozen BatchNorm is a scale and a shift of each channel: the convolution can do both.
The input gradient, of which noise and adversarial training take millions, then passes
fewer arrays through memory.
"""

from collections.abc import Iterator

from torch import Tensor, fx, nn
from torch.nn import functional

# Convolutions of 3 channels are slow on tensor cores; of 8, the others 0, they are not.
_FEWEST_CHANNELS = 8


def folded(network: nn.Module) -> nn.Module:
    """Return the network as eval mode may compute it; shares every weight and statistic.

    What cannot be traced, or has no BatchNorm right behind a convolution, stays as it is.
    """
    training = network.training
    network.eval()  # so that what asks for its mode is recorded as it is there
    try:
        traced = fx.symbolic_trace(network)
    except Exception:  # whatever a stranger's module does with what it takes for a tensor
        return network
    finally:
        network.train(training)
    modules = dict(traced.named_modules())
    pairs = list(_pairs(traced.graph, modules))
    for convolution, norm in pairs:
        merged = _Folded(modules[str(convolution.target)], modules[str(norm.target)])
        traced.add_submodule(f"folded_{norm.name}", merged)
        convolution.target = f"folded_{norm.name}"
        norm.replace_all_uses_with(convolution)
        traced.graph.erase_node(norm)
    traced.recompile()
    return traced if pairs else network


def _pairs(graph: fx.Graph, modules: dict[str, nn.Module]) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Yield each convolution whose output nothing but one BatchNorm reads, and that BatchNorm."""
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before, norm = node.args[0], modules[node.target]
        if (
            norm.running_mean is not None
            and before.op == "call_module"
            and type(modules[before.target]) is nn.Conv2d
            and len(before.users) == 1
        ):
            yield before, node


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
        return convolution._conv_forward(x, weight, shift)  # noqa: SLF001 - padding modes and all
