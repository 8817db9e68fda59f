"""The device's queue of work, and the lock for what concerns the whole device."""

import functools
import threading

import torch

# For whoever compiles, captures or empties caches, which concerns the whole device, or seeds
# torch's own generator, which is one for the whole process.
EXCLUSIVE = threading.RLock()


def wait(device: torch.device) -> None:
    """Wait until the device has finished this thread's work, as before reading a clock."""
    if device.type == "cuda":
        # Not for the whole device, on which another thread may be capturing.
        torch.cuda.current_stream(device).synchronize()


def own_stream(device: torch.device, number: int) -> None:
    """Let this thread queue its work on a stream of its own; does nothing on a CPU.

    Args:
        device: the CPU or a GPU.
        number: of the thread, from 1, among those that run at the same time.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.set_stream(numbered_stream(device, number))


# Streams are made once: torch hands out 32, and then the first one again to somebody else.
@functools.cache
def numbered_stream(device: torch.device, _number: int) -> torch.cuda.Stream:
    """Return the stream of that number, always the same one."""
    return torch.cuda.Stream(device)
