"""torch.compile behind a lock, with higher limits on the number of compiled variants."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from unlearnable_bench.harness.device import EXCLUSIVE

P = ParamSpec("P")
R = TypeVar("R")

# Largest number of compiled variants of a function, for modes, batch sizes and options.
_MAX_VARIANTS = 256


class Compiler:
    """Compiles functions of tensors, and networks.

    Args:
        passes: rewrites the graph of a network before it is split into kernels; None: no rewrite.
    """

    def __init__(self, passes: Any = None) -> None:
        # The same object for all networks: the compiler treats another object as another backend,
        # traces every network again, and stops compiling at its limit.
        self._options = {} if passes is None else {"joint_custom_post_pass": passes}
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._seen: set[object] = set()
        self._lock = threading.Lock()

    def call(
        self, function: Callable[P, R], any_size: bool, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a function of tensors, compiled into few kernels."""
        with self.compiling((function, *_signature((*args, *kwargs.values())))):
            _prepare()
            result: R = self._of(function, any_size)(*args, **kwargs)
        return result

    @contextmanager
    def compiling(self, signature: tuple[object, ...]) -> Iterator[None]:
        """Let no other thread compile, capture or initialise if a signature is new.

        The compiler saves and restores torch's own generator, from which another cell may draw its
        weights at the same time. A backward pass does not wait, since it runs in a thread of
        autograd while the waiting thread may hold the lock.

        Args:
            signature: what is called, and all for which the compiler may compile again.
        """
        backward = torch._C._current_graph_task_id() >= 0  # noqa: SLF001
        with nullcontext() if backward or signature in self._seen else EXCLUSIVE:
            yield
        self._seen.add(signature)

    def _of(self, function: Callable[..., Any], any_size: bool) -> Callable[..., Any]:
        with self._lock:
            if function not in self._compiled:
                self._compiled[function] = torch.compile(function, dynamic=any_size, fullgraph=True)
            return self._compiled[function]

    def network(self, network: nn.Module) -> None:
        """Compile a module's forward and backward in place."""
        _prepare()
        network.compile(dynamic=False, options=self._options)


def _prepare() -> None:
    # In each thread, because recent versions of torch have settings per thread.
    torch._dynamo.config.recompile_limit = _MAX_VARIANTS  # noqa: SLF001 - the documented switch
    torch._dynamo.config.accumulated_recompile_limit = 4 * _MAX_VARIANTS  # noqa: SLF001


def _signature(arguments: tuple[object, ...]) -> tuple[object, ...]:
    """Return the properties of arguments for which the compiler may compile again."""
    kinds = (
        (x.shape, x.stride(), x.dtype, x.device, x.requires_grad) if isinstance(x, Tensor) else x
        for x in arguments
    )
    return torch.is_grad_enabled(), *kinds
