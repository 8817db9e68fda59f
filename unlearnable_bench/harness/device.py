"""Synchronisation and streams of a device, and the lock for exclusive use of it."""

import functools
import threading
from contextlib import AbstractContextManager, nullcontext

import torch

# Held while compiling, capturing or emptying caches, which affects the whole device, and while
# torch's own generator is seeded, which affects the whole process.
EXCLUSIVE = threading.RLock()
_RUNS: dict[torch.device, AbstractContextManager[object]] = {}


def wait(device: torch.device) -> None:
    """Wait until the device has finished this thread's work, e.g. before reading a clock."""
    if device.type == "cuda":
        # The stream only: another thread may be capturing on the device.
        torch.cuda.current_stream(device).synchronize()


def one_run_on(device: torch.device) -> AbstractContextManager[object]:
    """Let runs in several threads of this process use a GPU one after another.

    Their cells would have the same streams, on which one may launch kernels while another captures.

    Args:
        device: the CPU, where nothing waits, or a GPU.
    """
    if device.type != "cuda":
        return nullcontext()
    with EXCLUSIVE:
        return _RUNS.setdefault(device, threading.RLock())


def own_stream(device: torch.device, number: int) -> None:
    """Give this thread a CUDA stream of its own; does nothing on a CPU.

    Args:
        device: the CPU or a GPU.
        number: number of the thread among those that run at the same time, from 1.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.set_stream(numbered_stream(device, number))


# Cached, because torch has 32 streams and then returns the first one again.
@functools.cache
def numbered_stream(device: torch.device, _number: int) -> torch.cuda.Stream:
    """Return the stream with this number, the same for every call."""
    return torch.cuda.Stream(device)
