"""The techniques of the fast path, of which those are used that torch and device support."""

import importlib
import threading
import warnings
from collections.abc import Callable, Collection, Iterable
from functools import reduce
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from unlearnable_bench.errors import unknown
from unlearnable_bench.harness.acceleration import acceleration, install
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.step import Step
from unlearnable_bench.harness.timesheet import Timesheet

P = ParamSpec("P")
R = TypeVar("R")

# Each technique with the parts of torch that it needs beyond the documented interface.
TECHNIQUES: dict[str, tuple[str, ...]] = {
    "graphs": ("torch.cuda.CUDAGraph", "torch.cuda.graph_pool_handle"),
    "compile": (
        "torch._dynamo.config.recompile_limit",
        "torch._dynamo.config.accumulated_recompile_limit",
        "torch._inductor.config",
        "torch._C._current_graph_task_id",
    ),
    "fuse": (),
    "fold": (
        "torch.utils._python_dispatch.TorchDispatchMode",
        "torch.utils._pytree.tree_leaves",
    ),
    "relu": (
        "torch._inductor.config.joint_custom_post_pass",
        "torch._inductor.custom_graph_pass.CustomGraphPass",
        "torch.cudnn_convolution_relu",
        "torch.cudnn_convolution_add_relu",
    ),
    "pick": (
        "torch._inductor.config.joint_custom_post_pass",
        "torch._inductor.custom_graph_pass.CustomGraphPass",
    ),
    "compare": (
        "torch._inductor.config.joint_custom_post_pass",
        "torch._inductor.custom_graph_pass.CustomGraphPass",
        "torch.utils.checkpoint.CheckpointPolicy",
    ),
    "split": (),
}
_GPU_ONLY = ("graphs", "compile", "fuse", "relu", "pick", "compare", "split")
# Techniques and the technique without which they have no effect.
_BASES = {
    "fuse": "compile",
    "relu": "compile",
    "pick": "compile",
    "compare": "compile",
}
_lock = threading.Lock()


def accelerate(device: torch.device, without: Collection[str] = ()) -> frozenset[str]:
    """Let the harness use the fast path on all devices of this type from now on.

    If torch lacks a part that a technique needs, a single warning names it, and the harness runs
    without the technique.

    Args:
        device: a GPU, or a CPU, on which only techniques in plain PyTorch are used.
        without: techniques to switch off, of `TECHNIQUES`.

    Returns:
        The techniques in use.

    Raises:
        UserError: an unknown technique.
    """
    for name in without:
        if name not in TECHNIQUES:
            raise unknown("technique", name, TECHNIQUES)
    with _lock:
        present = acceleration(device)
        if isinstance(present, _FastPath) and present.without == frozenset(without):
            return present.techniques
        wanted = [
            name
            for name in TECHNIQUES
            if name not in without and (device.type == "cuda" or name not in _GPU_ONLY)
        ]
        lacking = {name: need for name in wanted if (need := _lacking(name))}
        if lacking:
            reasons = ", ".join(f"{name} (needs {need})" for name, need in lacking.items())
            warnings.warn(
                f"ubench: torch {torch.__version__} does not support these techniques of the fast "
                f"path: {reasons}; runs are slower without them",
                stacklevel=2,
            )
        names = {name for name in wanted if name not in lacking}
        techniques = frozenset(n for n in names if _BASES.get(n, n) in names)
        install(device.type, _FastPath(techniques, frozenset(without)))
        return techniques


def _lacking(technique: str) -> str:
    """Return the first part of torch that a technique needs and torch lacks, or an empty text."""
    for need in TECHNIQUES[technique]:
        try:
            _find(need)
        except (ImportError, AttributeError):
            return need
    return ""


def _find(path: str) -> Any:
    """Return the object of a dotted path, importing its modules."""
    names = path.split(".")
    for count in range(len(names), 0, -1):
        try:
            found = importlib.import_module(".".join(names[:count]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, names[count:], found)
    raise ModuleNotFoundError(path)


class _FastPath:
    """An `Acceleration` with a set of techniques."""

    def __init__(self, techniques: frozenset[str], without: frozenset[str]) -> None:
        self.techniques, self.without = techniques, without
        self._compiler: Any = None
        if "compile" in techniques:
            from unlearnable_bench.fast.compiler import Compiler  # noqa: PLC0415

            self._compiler = Compiler(self._passes())

    def _passes(self) -> Any:
        chosen = self.techniques & {"relu", "pick", "compare"}
        if not chosen:
            return None
        from unlearnable_bench.fast.convolutions import FasterConvolutions  # noqa: PLC0415

        return FasterConvolutions(chosen)

    def call(
        self, function: Callable[P, R], any_size: bool, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        if "fuse" not in self.techniques:
            return function(*args, **kwargs)
        result: R = self._compiler.call(function, any_size, *args, **kwargs)
        return result

    def capture(self, function: Callable[..., Any], device: torch.device, times: Timesheet) -> Step:
        if "graphs" not in self.techniques:
            return Step(function)
        from unlearnable_bench.fast.graphs import CapturedStep  # noqa: PLC0415

        return CapturedStep(function, device, times)

    def network(self, network: nn.Module, size: int, *, bf16: bool) -> Network:
        from unlearnable_bench.fast.network import FastNetwork  # noqa: PLC0415

        return FastNetwork(
            network, size, bf16=bf16, compiler=self._compiler, techniques=self.techniques
        )

    def side_by_side(
        self, work: Iterable[Callable[[], Tensor]], device: torch.device
    ) -> list[Tensor]:
        if "split" not in self.techniques:
            return [piece() for piece in work]
        from unlearnable_bench.fast.graphs import side_by_side  # noqa: PLC0415

        return side_by_side(work, device)
