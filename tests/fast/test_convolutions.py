"""What the compiler is given instead of slow convolutions computes the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.compile import (
    aot_function,
    make_boxed_func,
    min_cut_rematerialization_partition,
)
from torch import Tensor
from torch._decomp import get_decompositions
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from unlearnable_bench.fast.convolutions import FasterConvolutions, convolve_relu

aten = torch.ops.aten
FUSED = torch.ops.unlearnable_bench.convolve_relu.default
Function = Callable[..., Tensor | tuple[Tensor, ...]]


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in made]


def rewritten(function: Function, *inputs: Tensor) -> GraphModule:
    module = make_fx(function, tracing_mode="fake")(*inputs)
    FasterConvolutions()(module.graph)
    module.graph.lint()
    module.recompile()
    return module


def count(module: GraphModule, target: object) -> int:
    return sum(node.target is target for node in module.graph.nodes)


# x, weight, bias, and something of the result's shape.
PARTS = tensors((2, 4, 6, 6), (5, 4, 3, 3), (5,), (2, 5, 6, 6), dtype=torch.bfloat16)


def convolved(x: Tensor, w: Tensor, b: Tensor | None, dilation: int = 1, groups: int = 1) -> Tensor:
    return functional.conv2d(x, w, b, 1, dilation, dilation, groups)


FUSIBLE: dict[str, Function] = {
    "convolution": lambda x, w, b, _: convolved(x, w, b).relu(),
    "first term": lambda x, w, b, z: (convolved(x, w, b) + z).relu(),
    "second term": lambda x, w, b, z: (z + convolved(x, w, b)).relu(),
    "sum with a ReLU": lambda x, w, b, z: (convolved(x, w, b) + z.relu()).relu(),
    "in place": lambda x, w, b, z: convolved(x, w, b).add_(z).relu_(),
}


@pytest.mark.parametrize("name", FUSIBLE)
def test_a_relu_is_done_by_the_convolution(name: str) -> None:
    module = rewritten(torch.func.functionalize(FUSIBLE[name]), *PARTS)
    assert count(module, FUSED) == 1
    assert count(module, aten.convolution.default) == 0
    torch.testing.assert_close(module(*PARTS), FUSIBLE[name](*PARTS), rtol=0, atol=0)


def test_of_two_convolutions_one_is_added_to_the_other() -> None:
    def block(x: Tensor, w: Tensor, b: Tensor, z: Tensor) -> Tensor:
        return (convolved(x, w, b) + convolved(x + 1, w, b)).relu() * z

    module = rewritten(block, *PARTS)
    assert (count(module, FUSED), count(module, aten.convolution.default)) == (1, 1)
    torch.testing.assert_close(module(*PARTS), block(*PARTS), rtol=0, atol=0)


def twice_read(x: Tensor, w: Tensor, b: Tensor, _: Tensor) -> Tensor:
    y = convolved(x, w, b)
    return y.relu() + y


def twice_read_sum(x: Tensor, w: Tensor, b: Tensor, z: Tensor) -> Tensor:
    y = convolved(x, w, b) + z
    return y.relu() + y


def added_to_itself(x: Tensor, w: Tensor, b: Tensor, _: Tensor) -> Tensor:
    y = convolved(x, w, b)
    return (y + y).relu()


NOT_FUSIBLE: dict[str, Function] = {
    "no bias": lambda x, w, b, _: convolved(x, w, None).relu() + b[:, None, None],
    "read twice": twice_read,
    "a sum read twice": twice_read_sum,
    "added to itself": added_to_itself,
    "dilated": lambda x, w, b, _: convolved(x, w, b, dilation=2).relu(),
    "in groups": lambda x, w, b, _: convolved(x, w[:4, :1], b[:4], groups=4).relu(),
    "a number added": lambda x, w, b, _: (convolved(x, w, b) + 1).relu(),
    "another shape added": lambda x, w, b, z: (convolved(x, w, b) + z[:1]).relu(),
    "another type added": lambda x, w, b, z: (convolved(x, w, b) + z.float()).relu(),
    "weighted": lambda x, w, b, z: torch.add(convolved(x, w, b), z, alpha=2).relu(),
    "another function": lambda x, w, b, _: convolved(x, w, b).sigmoid(),
    "fp32": lambda x, w, b, _: convolved(x.float(), w.float(), b.float()).relu(),
    "transposed": lambda x, w, b, _: functional.conv_transpose2d(x, w[:4, :2], b[:2]).relu(),
}


@pytest.mark.parametrize("name", NOT_FUSIBLE)
def test_what_cudnn_would_do_otherwise_is_left_alone(name: str) -> None:
    module = rewritten(NOT_FUSIBLE[name], *PARTS)
    assert count(module, FUSED) == 0
    torch.testing.assert_close(module(*PARTS), NOT_FUSIBLE[name](*PARTS), rtol=0, atol=0)


def test_the_fused_operation_is_what_it_says_with_strides_and_padding() -> None:
    x, w, b, _ = PARTS
    for stride, padding in (([1, 1], [0, 0]), ([2, 1], [0, 1])):
        plain = functional.conv2d(x, w, b, stride, padding)
        added = torch.ones_like(plain)
        for z, expected in ((None, plain.relu()), (added, (plain + added).relu())):
            torch.testing.assert_close(convolve_relu(x, w, b, z, stride, padding), expected)
    torch.library.opcheck(FUSED, (*PARTS, [1, 1], [1, 1]))


def gradients(stride: tuple[int, int], kernel: int, padding: int) -> Function:
    def function(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        x, w, b = (t.detach().requires_grad_() for t in (x, w, b))
        y = functional.conv2d(x, w[:, :, :kernel, :kernel], b, stride, padding)
        loss = (y * y.detach().sin() + (x**2).sum()).sum()
        return (y.detach(), *torch.autograd.grad(loss, (x, w, b)))

    return function


@pytest.mark.parametrize("stride", [(2, 2), (3, 1), (1, 2)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_strided_pointwise_convolution_reads_picked_pixels(
    stride: tuple[int, int], size: tuple[int, int]
) -> None:
    inputs = tensors((2, 4, *size), (5, 4, 1, 1), (5,), dtype=torch.float64)
    function = gradients(stride, 1, 0)
    module = rewritten(function, *inputs)
    strides = {
        str(node.args[3 if node.target is aten.convolution.default else 4])
        for node in module.graph.nodes
        if node.target in (aten.convolution.default, aten.convolution_backward.default)
    }
    assert strides == {"[1, 1]"}
    for found, expected in zip(module(*inputs), function(*inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "padding", "stride"), [(3, 1, 2), (1, 1, 2), (1, 0, 1)])
def test_other_convolutions_read_what_they_read(kernel: int, padding: int, stride: int) -> None:
    inputs = tensors((2, 4, 6, 6), (5, 4, 3, 3), (5,), dtype=torch.float64)
    function = gradients((stride, stride), kernel, padding)
    module = rewritten(function, *inputs)
    assert count(module, aten.slice_scatter.default) == 0
    for found, expected in zip(module(*inputs), function(*inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_gradient_that_nobody_reads_is_not_spread() -> None:
    def weights_only(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        w = w.detach().requires_grad_()
        return torch.autograd.grad(functional.conv2d(x, w, b, 2).square().sum(), w)[0]

    inputs = tensors((2, 4, 6, 6), (5, 4, 1, 1), (5,), dtype=torch.float64)
    module = rewritten(weights_only, *inputs)
    assert count(module, aten.slice_scatter.default) == 0
    torch.testing.assert_close(module(*inputs), weights_only(*inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("asked", [False, True])
def test_the_backward_pass_reads_where_a_relu_cut_off_from_its_result(asked: bool) -> None:
    forms = {}

    def divide(joint: GraphModule, inputs: Any, **options: Any) -> tuple[GraphModule, GraphModule]:
        if asked:
            FasterConvolutions()(joint.graph)
        return min_cut_rematerialization_partition(joint, inputs, **options)

    def keep(name: str) -> Callable[[GraphModule, list[Tensor]], Any]:
        return lambda module, _: make_boxed_func(forms.setdefault(name, module))

    def layers(x: Tensor, w: Tensor, b: Tensor, w2: Tensor) -> Tensor:
        return convolved(convolved(x, w, b).relu(), w2, b).relu() + 1

    x, w, b, _ = (t.float() for t in PARTS)
    w2 = torch.cat([w, w[:, :1]], 1)
    compiled = aot_function(
        layers,
        fw_compiler=keep("forward"),
        bw_compiler=keep("backward"),
        partition_fn=divide,
        decompositions=get_decompositions([aten.threshold_backward]),
    )
    gradients = []
    for function in (layers, compiled):
        leaf = x.clone().requires_grad_()
        gradients += torch.autograd.grad(function(leaf, w, b, w2).sum(), leaf)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    compared = {name: count(module, aten.le.Scalar) for name, module in forms.items()}
    assert sum(compared.values()) == 2
    assert (compared["forward"] == 0) == asked


def test_the_compiler_tells_this_code_from_other_code() -> None:
    first, second = (FasterConvolutions().uuid() for _ in range(2))
    assert first == second
    assert first  # none would mean: do not keep what was compiled
