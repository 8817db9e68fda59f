"""Steps captured as CUDA graphs: a single launch for all kernels of a step."""

import functools
import itertools
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.device import EXCLUSIVE, numbered_stream, wait
from unlearnable_bench.harness.step import Step, line_of, noting, one_step
from unlearnable_bench.harness.timesheet import Timesheet

_HERE = str(Path(__file__).parent)


def side_by_side(work: Iterable[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """Run independent functions on a GPU, two at a time.

    Every other one is queued on a second stream and computes while the first waits for memory or
    leaves processors idle.

    Args:
        work: the functions.
        device: a GPU.

    Returns:
        Their results, in order.
    """
    current = torch.cuda.current_stream(device)
    second = _second(current)
    second.wait_stream(current)
    results = []
    for stream, piece in zip(itertools.cycle((current, second)), work, strict=False):
        with torch.cuda.stream(stream):
            results.append(piece())
    # Memory of the second stream is reused by that stream only, after the next wait.
    current.wait_stream(second)
    return results


class CapturedStep(Step):
    """A step that is captured as a CUDA graph after its warm-up, then replayed.

    The first calls run the step as written: they count as real steps, compile the kernels and
    create the optimizer's state. The next call captures the graph. Capturing executes nothing,
    so no state has to be saved and restored.

    A step with transfers between GPUs (`outside_graphs`) becomes several graphs, with a transfer
    after each but the last one.

    Args:
        function: as for `Step`.
        device: a GPU.
        times: receives the time of the calls before the first replay as "warmup".
    """

    _EAGER_CALLS = 2
    warm_calls = _EAGER_CALLS + 1

    def __init__(
        self, function: Callable[..., Any], device: torch.device, times: Timesheet
    ) -> None:
        super().__init__(function)
        self._device = device
        self._times = times
        self._calls = 0
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._between: list[Callable[[], None]] = []
        # A graph holds no reference to its inputs and outputs, so this object does.
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Run the step; the next call overwrites the result.

        Raises:
            UserError: inputs of another shape or type than before, or a step that changes its
                inputs or synchronises with the host; the message names the line.
        """
        if not self._graphs:
            wait(self._device)  # queued work is not warm-up; waiting for the lock is
            with self._times.on("warmup"), EXCLUSIVE:
                return self._warm_up(inputs)
        self._take(inputs)
        self._replay()
        return self._outputs

    def _replay(self) -> None:
        for graph, between in itertools.zip_longest(self._graphs, self._between):
            graph.replay()
            if between:
                between()

    def _warm_up(self, inputs: tuple[Tensor, ...]) -> Any:
        if not self._inputs:
            self._inputs = tuple(x.clone() for x in inputs)
        self._take(inputs)
        torch.cuda.synchronize(self._device)
        if self._calls < self._EAGER_CALLS:
            self._calls += 1
            with torch.cuda.stream(_stream(self._device)):
                self._outputs = self.run(self._inputs)
        else:
            self._capture()
        torch.cuda.synchronize(self._device)
        return self._outputs

    def _capture(self) -> None:
        pool = torch.cuda.graph_pool_handle()
        graphs, between = [torch.cuda.CUDAGraph()], list[Callable[[], None]]()
        around = torch.cuda.current_stream(self._device)
        raised: list[BaseException] = []
        capturing = _capturing(graphs[0], pool, self._device)

        def note(function: Callable[[], None]) -> None:
            # The graphs are replayed in the order of their capture, so they may share a pool.
            graphs[-1].capture_end()
            between.append(function)
            graphs.append(torch.cuda.CUDAGraph())
            capturing.cuda_graph = graphs[-1]  # which it ends
            graphs[-1].capture_begin(pool, capture_error_mode=_error_mode())

        try:
            with capturing, one_step(), noting(note):
                try:
                    self._outputs = self._function(*self._inputs)
                except BaseException as first:
                    raised.append(first)
                    raise
        except BaseException as last:
            # Ending a broken capture raises again, and leaves this thread on the capture's stream.
            torch.cuda.set_stream(around)
            with suppress(Exception):  # the first error is reported in any case
                _forget_broken_capture(pool, self._device)
            error = [*raised, last][0]
            if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
                raise error from None
            line = line_of(traceback.extract_tb(error.__traceback__), _HERE)
            raise UserError(f"{line} cannot be captured: {_reason(error)}") from error
        self._graphs, self._between = graphs, between
        self._replay()

    def _take(self, inputs: tuple[Tensor, ...]) -> None:
        for static, given in zip(self._inputs, inputs, strict=True):
            if (static.shape, static.dtype) != (given.shape, given.dtype):
                line = line_of(traceback.extract_stack(), _HERE)
                raise UserError(
                    f"{line}: captured with {_kind(static)}, called with {_kind(given)}; call "
                    "harness.capture again for the second shape"
                )
            static.copy_(given)


def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream for warm-up and capture: the current one unless it is the default.

    cuBLAS has one workspace per stream of capture. Graphs captured on the same stream share it,
    so they must be replayed on a single stream: packed cells whose graphs shared a stream would
    corrupt each other's sums.
    """
    current = torch.cuda.current_stream(device)
    default = torch.cuda.default_stream(device)
    return numbered_stream(device, 0) if current == default else current


@functools.cache
def _second(stream: torch.cuda.Stream) -> torch.cuda.Stream:
    return torch.cuda.Stream(stream.device)


def _capturing(graph: torch.cuda.CUDAGraph, pool: Any, device: torch.device) -> torch.cuda.graph:
    return torch.cuda.graph(graph, pool, _stream(device), capture_error_mode=_error_mode())


def _forget_broken_capture(pool: Any, device: torch.device) -> None:
    """Restore torch's state after a broken capture.

    torch 2.11 continues to allocate from the capture's memory pool, and frees no memory of any
    pool until the process ends (https://github.com/pytorch/pytorch/issues/180395); later versions
    refuse the calls below. torch's own generator also stays in capture mode until a capture ends
    without error: the next draw from it, by another cell or the compiler, would fail.
    """
    number = _stream(device).device.index
    with suppress(RuntimeError, AttributeError):
        torch._C._cuda_endAllocateToPool(number, pool)  # noqa: SLF001
        torch._C._cuda_releasePool(number, pool)  # noqa: SLF001
    with _capturing(torch.cuda.CUDAGraph(), None, device):
        torch.zeros(1, device=device)


def _error_mode() -> str:
    """Return the threads whose unsafe calls break a capture: in packed cells only this one.

    Also with several GPUs, since a thread of NCCL looks at its transfers at any time.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return "global" if on_main_thread and not several else "thread_local"


def _kind(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"


def _reason(error: BaseException) -> str:
    text = str(error).split("\n")[0]
    return (
        "a captured step must not wait for the device (.item(), .cpu(), print) "
        f"nor create tensors from host data ({text})"
    )
