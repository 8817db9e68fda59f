"""Graph rewrites of convolutions and ReLUs into operations with faster kernels.

The compiler passes convolutions to cuDNN unchanged. Two patterns are slow:

- a ReLU after a convolution, possibly with a sum between them, takes as long as its memory
  traffic; cuDNN fuses both into the convolution at no extra time ("relu");
- a 1x1 convolution with a stride takes several times as long as selecting the pixels that it
  reads and convolving them without a stride ("pick").

The compiler also stores the mask of a ReLU as booleans, by an extra kernel in the forward pass; an
existing kernel of the backward pass can compute it from the ReLU's output ("compare").
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node
from torch.nn import functional
from torch.utils.checkpoint import CheckpointPolicy

_aten = torch.ops.aten
_END = 2**63 - 1  # end of a slice of any length


@torch.library.custom_op("unlearnable_bench::convolve_relu", mutates_args=())
def convolve_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    added: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Return relu(convolution + bias + added), in a single kernel on CUDA.

    Args:
        x: input, [N, in, H, W], channels-last.
        weight: weights, [out, in, k, k], channels-last.
        bias: bias, [out].
        added: tensor of the result's shape, or None.
        stride: stride of both axes in pixels.
        padding: padding of both axes in pixels.
    """
    if not x.is_cuda:
        result = functional.conv2d(x, weight, bias, stride, padding)
        return functional.relu(result if added is None else result + added)
    if added is None:
        return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, (1, 1), 1)
    return torch.cudnn_convolution_add_relu(x, weight, added, 1.0, bias, stride, padding, (1, 1), 1)


@convolve_relu.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    _added: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    result = functional.conv2d(x, weight, bias, stride, padding)
    return result.contiguous(memory_format=torch.channels_last)


class FasterConvolutions(CustomGraphPass):
    """Rewrites the joint forward-backward graph before Inductor splits it into kernels."""

    def __init__(self, techniques: Collection[str] = ("relu", "pick", "compare")) -> None:
        super().__init__()
        self._techniques = tuple(sorted(techniques))

    def __call__(self, graph: Graph) -> None:
        """Rewrite a graph in place."""
        if "pick" in self._techniques:
            for node in _calls(graph, _aten.convolution.default):
                _pick_then_convolve(graph, node)
            for node in _calls(graph, _aten.convolution_backward.default):
                _pick_then_convolve_backward(graph, node)
        if "relu" in self._techniques:
            for node in _calls(graph, _aten.relu.default):
                _fuse(graph, node)
        if "compare" in self._techniques:
            for node in _calls(graph, _aten.le.Scalar):
                _compare_in_backward(node)
        graph.eliminate_dead_code()

    def uuid(self) -> object:
        """Return an identifier of this code for the compiler's cache."""
        return get_hash_for_files((__file__,), ",".join(self._techniques))


def _calls(graph: Graph, target: Any) -> list[Node]:
    return [*graph.find_nodes(op="call_function", target=target)]


def _fuse(graph: Graph, relu: Node) -> None:
    """Replace a ReLU and the convolution, or the sum with a convolution, before it."""
    (read,) = terms = _args(relu)
    if _is(read, _aten.add.Tensor) and len(read.users) == 1 and not read.kwargs:
        terms = _args(read)
        if terms[0] is terms[1]:
            return
    convolution = next((term for term in terms if _may_fuse(term)), None)
    added = next((term for term in terms if term is not convolution), None)
    if convolution is None or not _alike(added, convolution):
        return
    x, weight, bias, stride, padding, *_ = _args(convolution)
    with graph.inserting_before(relu):
        fused = _call(graph, convolve_relu._opoverload, x, weight, bias, added, stride, padding)  # noqa: SLF001
    relu.replace_all_uses_with(fused)


def _may_fuse(node: Any) -> bool:
    """Return whether this is a bf16 convolution with a bias and exactly one reader."""
    if not _is(node, _aten.convolution.default) or len(node.users) != 1:
        return False
    _, _, bias, _, _, dilation, transposed, _, groups = _args(node)
    supported = dilation == [1, 1] and not transposed and groups == 1
    bf16 = node.meta["val"].dtype == torch.bfloat16
    return bool(supported and bf16 and bias is not None)


def _alike(added: Any, convolution: Node) -> bool:
    """Return whether the other term of a sum, if any, has the convolution's shape and type."""
    if added is None:
        return True
    if not isinstance(added, Node):
        return False
    one, other = added.meta["val"], convolution.meta["val"]
    return bool(one.shape == other.shape and one.dtype == other.dtype)


def _compare_in_backward(at_most: Node) -> None:
    """Let the backward pass compute the mask of a ReLU from its output."""
    if at_most.args[1] == 0 and any(_is(user, _aten.where.self) for user in at_most.users):
        at_most.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE


def _pick_then_convolve(graph: Graph, node: Node) -> None:
    x, weight, _, stride, padding, _, transposed, *_ = _args(node)
    if not transposed and _strided_pointwise(weight, stride, padding):
        with graph.inserting_before(node):
            node.update_arg(0, _pick(graph, x, stride))
        node.update_arg(3, [1, 1])


def _pick_then_convolve_backward(graph: Graph, node: Node) -> None:
    _, x, weight, _, stride, padding, _, transposed, *_ = _args(node)
    if transposed or not _strided_pointwise(weight, stride, padding):
        return
    with graph.inserting_before(node):
        node.update_arg(1, _pick(graph, x, stride))
    node.update_arg(4, [1, 1])
    node.meta["val"] = _value(node)
    for part in list(node.users):
        if part.args[1] == 0 and part.users:
            _put_back(graph, part, x.meta["val"], stride)


def _strided_pointwise(weight: Any, stride: Any, padding: Any) -> bool:
    pointwise = weight.meta["val"].shape[2:] == (1, 1) and padding == [0, 0]
    return bool(pointwise and stride != [1, 1])


def _pick(graph: Graph, x: Any, stride: Any) -> Node:
    """Add nodes for a copy of x[:, :, ::stride, ::stride]."""
    for axis, step in enumerate(stride, 2):
        x = _call(graph, _aten.slice.Tensor, x, axis, 0, _END, step)
    return _call(graph, _aten.clone.default, x, memory_format=torch.channels_last)


def _put_back(graph: Graph, gradient: Node, like: Tensor, stride: Any) -> None:
    """Replace the gradient of the picked pixels by that of all pixels, 0 elsewhere."""
    readers = list(gradient.users)
    gradient.meta["val"] = _value(gradient)
    spread = gradient
    with graph.inserting_before(gradient.next):
        for axis, step in enumerate(stride, 2):
            shape = list(spread.meta["val"].shape)
            shape[axis] = like.shape[axis]
            kind: Any = {"dtype": like.dtype, "device": like.device}
            zeros = graph.call_function(_aten.full.default, (shape, 0.0), kind)
            zeros.meta["val"] = like.new_zeros(shape)
            spread = _call(graph, _aten.slice_scatter.default, zeros, spread, axis, 0, _END, step)
    for reader in readers:
        reader.replace_input_with(gradient, spread)


def _call(graph: Graph, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
    node = graph.call_function(target, args, kwargs)
    node.meta["val"] = _value(node)
    return node


def _value(node: Node) -> Any:
    """Return a node's result as tensors without data."""
    target: Any = node.target
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    return target(*args, **kwargs)


def _args(node: Node) -> tuple[Any, ...]:
    """Return a node's arguments, typed loosely."""
    return node.args


def _is(node: Any, target: object) -> bool:
    return isinstance(node, Node) and node.target is target
