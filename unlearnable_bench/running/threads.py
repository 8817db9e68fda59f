"""The number of threads of torch on the CPU.

torch starts a thread for each core that it sees, and knows no quota of a container or a batch job.
The threads of a step wait for each other, so one that shares its core with another program holds
up all of them: a run that took 6 s with one thread was seen to take 70 s with two.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from unlearnable_bench.errors import UserError

# Results depend on the number, so a larger one than there are cores is allowed, to repeat them.
MOST = 1024


def use_threads(threads: int | None) -> None:
    """Let torch compute with a number of threads on the CPU from now on.

    Args:
        threads: the number; None: `default_threads`.

    Raises:
        UserError: a number out of range.
    """
    if threads is None:
        threads = default_threads()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST:
        raise UserError(f"threads={threads!r}: give a whole number from 1 to {MOST}")
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def default_threads() -> int:
    """Return the number of threads if the user gives none.

    torch's own number, which OMP_NUM_THREADS or `torch.set_num_threads` may have set, but without
    OMP_NUM_THREADS at most `usable_cores`.
    """
    if os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip().isdecimal():
        return torch.get_num_threads()
    return min(torch.get_num_threads(), usable_cores())


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least 1.

    The smallest of: its affinity (`taskset`, cpusets), the CPU quota of its control group and
    those around it (containers, systemd), rounded down, and SLURM_CPUS_PER_TASK.

    Args:
        root: where /proc and /sys are, for tests.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS
    limits = [len(affinity(0)) if affinity else os.cpu_count() or 1, *map(int, _quotas(root))]
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdecimal():
        limits.append(int(slurm))
    return max(1, min(limits))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of this process's control groups of versions 1 and 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if "cpu" in controllers.split(","):
            named = [mount / controllers, mount / "cpu"]
            mount = next((folder for folder in named if folder.is_dir()), mount)
        elif controllers:
            continue
        # In a container the path may be the host's, while the group is mounted at the top.
        for part in (path, *map(str, Path(path).parents)):
            group = mount / part.lstrip("/")
            pair = _text(group / "cpu.max").split() or [
                _text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
            ]
            # Without a quota: "max" or -1.
            if len(pair) == 2 and all(text.isdecimal() and int(text) for text in pair):
                yield int(pair[0]) / int(pair[1])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
