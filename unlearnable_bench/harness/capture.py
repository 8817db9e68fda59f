"""The one fast path: compile a step, record it as a CUDA graph, replay it."""

import functools
import itertools
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch_config

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.convolutions import FasterConvolutions
from unlearnable_bench.harness.timesheet import Timesheet

P = ParamSpec("P")
R = TypeVar("R")

_OWN_FOLDERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
# One compiled entry for each mode, batch size and option of the same function.
_MAX_VARIANTS = 256
# One object for all networks: to the compiler another one is another way to compile, and it
# would trace each network anew, until it has met its limit and leaves the rest uncompiled.
_OPTIONS = {"joint_custom_post_pass": FasterConvolutions()}
# Held by whoever compiles, records or empties caches: these concern the whole device, and
# torch's own generator and compiler the whole process.
EXCLUSIVE = threading.RLock()

_running = threading.local()


@contextmanager
def one_step() -> Iterator[None]:
    """Mark a piece of work in which networks change only by what Python sees.

    A replay changes them unseen: what is derived from their weights serves again within
    one step, and no longer. A step within a step is a part of it.
    """
    around = current_step()
    _running.step = around or object()
    try:
        yield
    finally:
        _running.step = around


def current_step() -> object:
    """Return what stands for the step that this thread is in; else None."""
    return getattr(_running, "step", None)


def _prepare_compiler() -> None:
    # In each thread: since torch 2.14 or earlier each has settings of its own.
    torch._dynamo.config.recompile_limit = _MAX_VARIANTS  # noqa: SLF001 - the documented switch
    torch._dynamo.config.accumulated_recompile_limit = 4 * _MAX_VARIANTS  # noqa: SLF001
    # The key of what is kept holds forward and backward of such functions (the folded
    # convolution is one); without this, torch would trace them anew in every process.
    functorch_config.autograd_cache_allow_custom_autograd_functions = True


def fused(function: Callable[P, R], *, any_size: bool = False) -> Callable[P, R]:
    """Compile a function of tensors into few kernels on CUDA; leave it alone on a CPU.

    The first argument must be a tensor: its device decides.

    Args:
        function: to be compiled.
        any_size: once for all shapes and integers; else for each anew, so that the
            compiler can reckon with them. For what is small.
    """
    compiled: Callable[P, R] | None = None
    seen: set[object] = set()

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal compiled
        first = args[0]
        # Asked in this thread alone: another may be compiling.
        compiling = torch.compiler.is_dynamo_compiling()
        if not (isinstance(first, Tensor) and first.is_cuda) or compiling:
            return function(*args, **kwargs)
        # The compiler puts torch's own generator back as it found it, while another cell may
        # draw its weights from it. A backward pass runs in a thread of autograd's, and the
        # thread that waits for it may hold the lock: there, nobody may ask for it.
        backward = torch._C._current_graph_task_id() >= 0  # noqa: SLF001
        signature = _signature((*args, *kwargs.values()))
        with nullcontext() if backward or signature in seen else EXCLUSIVE:
            _prepare_compiler()
            if compiled is None:
                compiled = torch.compile(function, dynamic=any_size, fullgraph=True)
            result = compiled(*args, **kwargs)
        seen.add(signature)
        return result

    return call


def _signature(arguments: tuple[object, ...]) -> object:
    """Return what the compiler may compile anew for."""
    kinds = (
        (x.shape, x.stride(), x.dtype, x.device, x.requires_grad) if isinstance(x, Tensor) else x
        for x in arguments
    )
    return torch.is_grad_enabled(), *kinds


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Compile a module's forward and backward in place on CUDA; nothing on a CPU."""
    if device.type == "cuda":
        _prepare_compiler()
        network.compile(dynamic=False, options=_OPTIONS)


def wait(device: torch.device) -> None:
    """Wait until the device has done what this thread asked it for: before looking at a clock."""
    if device.type == "cuda":
        # Not for the whole device, on which another thread may be recording.
        torch.cuda.current_stream(device).synchronize()


def side_by_side(work: Iterable[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """Do pieces of work that need nothing of each other on a GPU, two at a time.

    Every other one is queued on a second stream: where one waits for memory, or leaves
    processors idle, the other computes.
    """
    current = torch.cuda.current_stream(device)
    beside = _beside(current)
    beside.wait_stream(current)
    found = []
    for stream, piece in zip(itertools.cycle((current, beside)), work, strict=False):
        with torch.cuda.stream(stream):
            found.append(piece())
    # What the second stream made is given back to it: reused only after another wait.
    current.wait_stream(beside)
    return found


def own_stream(device: torch.device, number: int) -> None:
    """Let this thread queue its work on a stream of its own; nothing on a CPU.

    Args:
        device: where.
        number: of the thread, from 1, among those at work at the same time.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.set_stream(_numbered(device, number))


class Captured:
    """A step that is recorded as a CUDA graph once warm, then replayed.

    The first calls run the step as it is: they do real work, compile the
    kernels and create what the optimizer keeps. The call after them records the
    graph. Recording executes nothing, so no state has to be saved and restored.

    Args:
        step: takes tensors of fixed shapes, returns tensors or nothing, and keeps
            all state in tensors that it changes in place.
        device: where it runs; on a CPU every call is a plain call.
        times: where the calls before the first replay count as "warmup".
    """

    WARM_CALLS = 2

    def __init__(
        self,
        step: Callable[..., Any],
        device: torch.device,
        times: Timesheet,
    ) -> None:
        self._step = step
        self._device = device
        self._times = times
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        # A graph does not keep its inputs and outputs alive: this object does.
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Run the step; the result is overwritten by the next call.

        Raises:
            UserError: inputs of another shape or type than before, a step that changes
                its inputs or synchronises with the host; the message says in which line.
        """
        if self._device.type != "cuda":
            return self._run(inputs)
        if self._graph is None:
            wait(self._device)  # what is queued is no part of it; waiting for another's is
            with self._times.on("warmup"), EXCLUSIVE:
                return self._warm_up(inputs)
        self._take(inputs)
        self._graph.replay()
        return self._outputs

    def _warm_up(self, inputs: tuple[Tensor, ...]) -> Any:
        if not self._inputs:
            self._inputs = tuple(x.clone() for x in inputs)
        self._take(inputs)
        torch.cuda.synchronize(self._device)
        if self._calls < self.WARM_CALLS:
            self._calls += 1
            with torch.cuda.stream(_stream(self._device)):
                self._outputs = self._run(self._inputs)
        else:
            self._record()
        torch.cuda.synchronize(self._device)
        return self._outputs

    def _run(self, inputs: tuple[Tensor, ...]) -> Any:
        """Run the step as it is."""
        before = _versions(inputs)
        with one_step():
            outputs = self._step(*inputs)
        if before != _versions(inputs):
            raise UserError(
                f"{_line(traceback.extract_stack())}: a captured step must not change its inputs, "
                "which on a GPU are copies; let it change tensors of the function around it"
            )
        return outputs

    def _record(self) -> None:
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        around = torch.cuda.current_stream(self._device)
        raised: list[BaseException] = []
        try:
            with _recording(graph, pool, self._device), one_step():
                try:
                    self._outputs = self._step(*self._inputs)
                except BaseException as first:
                    raised.append(first)
                    raise
        except BaseException as last:
            # To end a broken recording raises once more, and leaves this thread on its stream.
            torch.cuda.set_stream(around)
            with suppress(RuntimeError):
                _forget_broken_recording(pool, self._device)
            error = [*raised, last][0]
            if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
                raise error from None
            line = _line(traceback.extract_tb(error.__traceback__))
            raise UserError(f"{line} cannot be captured: {_reason(error)}") from error
        self._graph = graph
        graph.replay()

    def _take(self, inputs: tuple[Tensor, ...]) -> None:
        for static, given in zip(self._inputs, inputs, strict=True):
            if (static.shape, static.dtype) != (given.shape, given.dtype):
                line = _line(traceback.extract_stack())
                raise UserError(
                    f"{line}: a captured step takes inputs of one shape and type: first "
                    f"{_kind(static)}, now {_kind(given)}; capture a second one"
                )
            static.copy_(given)


def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream to warm up and record on: the current one, if it is not the default.

    cuBLAS keeps one workspace for each stream that it is recorded on. Graphs recorded on
    one stream share it, so they may only be replayed on one stream too: packed cells whose
    graphs had a stream in common would spoil each other's sums.
    """
    current = torch.cuda.current_stream(device)
    return _numbered(device, 0) if current == torch.cuda.default_stream(device) else current


# Streams are made once: torch hands out 32 and then the first again, to someone else.
@functools.cache
def _numbered(device: torch.device, _number: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@functools.cache
def _beside(stream: torch.cuda.Stream) -> torch.cuda.Stream:
    return torch.cuda.Stream(stream.device)


def _recording(graph: torch.cuda.CUDAGraph, pool: Any, device: torch.device) -> torch.cuda.graph:
    return torch.cuda.graph(graph, pool, _stream(device), capture_error_mode=_error_mode())


def _forget_broken_recording(pool: Any, device: torch.device) -> None:
    """Leave torch as if a recording that broke had never begun.

    torch 2.11 goes on filling its memory pool, and frees none of any pool until the process
    ends; later ones refuse what is tried here (pytorch/pytorch#180395). And torch's own
    generator is left recording until one ends that does not break: the next to draw from it,
    another cell or the compiler, would fail.
    """
    number = _stream(device).device.index
    with suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(number, pool)  # noqa: SLF001
        torch._C._cuda_releasePool(number, pool)  # noqa: SLF001
    with _recording(torch.cuda.CUDAGraph(), None, device):
        torch.zeros(1, device=device)


def _error_mode() -> str:
    """Return whose unsafe calls break a recording: with packed cells, only this thread's."""
    alone = threading.current_thread() is threading.main_thread()
    return "global" if alone else "thread_local"


def _versions(inputs: tuple[Tensor, ...]) -> list[int]:
    """Return how often each was changed."""
    return [x._version for x in inputs]  # noqa: SLF001


def _kind(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"


def _line(frames: traceback.StackSummary) -> str:
    """Return file, line and text of the innermost frame that is neither torch's nor ours."""
    own = [f for f in frames if not f.filename.startswith(_OWN_FOLDERS)]
    frame = (own or list(frames))[-1]
    return f"{frame.filename}:{frame.lineno}: `{frame.line}`"


def _reason(error: BaseException) -> str:
    text = str(error).split("\n")[0]
    return (
        "a captured step must not wait for the device (.item(), .cpu(), print) "
        f"nor make tensors from host data ({text})"
    )
