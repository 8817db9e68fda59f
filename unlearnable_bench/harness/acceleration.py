"""The interface of the fast path. Without one, the harness runs as written.

`unlearnable_bench.fast.accelerate` installs a fast path for a device; the harness never imports
it.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.step import Step
from unlearnable_bench.harness.timesheet import Timesheet

P = ParamSpec("P")
R = TypeVar("R")


class Acceleration(Protocol):
    """Parts of the harness that a fast path replaces, with equal results up to rounding."""

    def call(
        self, function: Callable[P, R], any_size: bool, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a function of tensors."""

    def capture(self, function: Callable[..., Any], device: torch.device, times: Timesheet) -> Step:
        """Return a step equivalent to the function; its warm-up counts as "warmup"."""

    def network(self, network: nn.Module, size: int, *, bf16: bool) -> Network:
        """Return the network for images of `size` pixels."""

    def side_by_side(
        self, work: Iterable[Callable[[], Tensor]], device: torch.device
    ) -> list[Tensor]:
        """Run independent functions and return their results in order."""


_installed: dict[str, Acceleration] = {}


def install(device_type: str, path: Acceleration | None) -> None:
    """Use a fast path on all devices of a type from now on; None: no fast path."""
    if path is None:
        _installed.pop(device_type, None)
    else:
        _installed[device_type] = path


def acceleration(device: torch.device) -> Acceleration | None:
    """Return the fast path of a device, or None if it has none."""
    return _installed.get(device.type)


def fused(function: Callable[P, R], *, any_size: bool = False) -> Callable[P, R]:
    """Let a fast path compile a function of tensors into few kernels.

    The fast path is that of the first argument's device, so it must be a tensor.

    Args:
        function: a pure function, which does not change its arguments.
        any_size: whether it is compiled once for all shapes and integers instead of for each.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0]
        # `is_dynamo_compiling` concerns this thread only, while another may be compiling.
        if torch.compiler.is_dynamo_compiling() or not isinstance(first, Tensor):
            return function(*args, **kwargs)
        fast = acceleration(first.device)
        if fast is None:
            return function(*args, **kwargs)
        return fast.call(function, any_size, *args, **kwargs)

    return call
