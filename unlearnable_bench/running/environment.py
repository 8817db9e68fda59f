"""The environment of a result: device, versions, driver, git revision."""

import logging
import platform
import resource
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from unlearnable_bench.errors import UserError
from unlearnable_bench.running.allocator import keep_freed_memory

_LOG = logging.getLogger(__name__)

# Of whatever makes, changes, compares or stores pixels and numbers.
_PACKAGES = (
    "unlearnable-bench", "torch", "torchvision", "numpy", "scikit-learn", "scipy", "pillow",
    "opencv-python-headless", "safetensors",
)  # fmt: skip


def pick_device(name: str | None) -> torch.device:
    """Return a device by name.

    Args:
        name: "cpu", "cuda" or "cuda:1"; None: CUDA if available, else the CPU.

    Returns:
        The device. A CUDA device has an index, since parts of torch refuse one without.

    Raises:
        UserError: an unknown device, or one that this machine lacks.
    """
    available = torch.cuda.is_available()
    if name is None:
        name = "cuda" if available else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; write cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unsupported device {name!r}; write cpu, cuda or cuda:1")
    if device.type == "cuda" and not available:
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    if device.type != "cuda":
        return device
    if (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(
            f"--device {name}: there are {count} CUDA devices; allowed: cuda:0 to cuda:{count - 1}"
        )
    return torch.device("cuda", device.index or 0)


def use_fast_path(device: torch.device, without: Collection[str] = ()) -> None:
    """Let the harness use the fast path on a GPU; on a CPU, only keep freed memory.

    Args:
        device: device of the run.
        without: techniques to switch off, of `fast.TECHNIQUES`.

    Raises:
        UserError: an unknown technique.
    """
    if device.type != "cuda":
        keep_freed_memory()
        return
    try:
        # Loads torch's compiler, which takes seconds, so only for work on a GPU.
        from unlearnable_bench.fast import accelerate  # noqa: PLC0415
    except ModuleNotFoundError as error:
        _LOG.warning("ubench: the fast path is missing (%s); runs are many times slower", error)
        return
    accelerate(device, without)


def use_algorithms(device: torch.device) -> None:
    """Let runs on a device be fast and reproducible.

    Reproducible: as `use_reproducible_algorithms`.
    """
    use_fast_path(device)
    use_reproducible_algorithms()


def use_reproducible_algorithms() -> None:
    """Let cuDNN choose no algorithm by timing and sum in a fixed order, and compute fp32 in fp32.

    TF32 is a switch of the process: cells in its other threads would have it, too.
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    # The switches above leave what a program chose for all backends; mkldnn's are the CPU's.
    for name in ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv"):
        attrgetter(name)(torch.backends).fp32_precision = "ieee"


@contextmanager
def plain_torch() -> Iterator[None]:
    """Compute outside of what the caller set for its thread: autocast, no_grad, inference mode.

    Raises:
        UserError: another default type than float32, which is a setting of the process.
    """
    if (dtype := torch.get_default_dtype()) != torch.float32:
        raise UserError(
            f"torch's default type is {dtype}, which would change results; call "
            "torch.set_default_dtype(torch.float32) before"
        )
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        yield


def is_usable(device: torch.device) -> bool:
    """Return whether a device computes; some errors end all work of a process on its GPU."""
    if device.type != "cuda":
        return True
    try:
        torch.zeros(1, device=device).add_(1).item()
    except torch.OutOfMemoryError:
        return True
    except RuntimeError:
        return False
    return True


def describe(device: torch.device) -> dict[str, Any]:
    """Return versions, device, driver and git revision as JSON values."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": device_name(device),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        "driver": _driver() if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "git": _git_revision(),
    }


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or the machine type of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes, of the GPU's allocator or of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _driver() -> str | None:
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


@cache
def _git_revision() -> str | None:
    """Return the git revision if the package runs from a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    return _output("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12")


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[0].strip() or None
