"""The C library's allocator, for work on a CPU.

glibc returns large blocks to the system as soon as they are freed. A step frees and asks for the
same activations again and again, and the system hands them out page by page
(docs/performance.md#on-a-cpu).
"""

import ctypes
import os
import sys

# Parameters of `mallopt` (man 3 mallopt), with the largest value that glibc takes for the first.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGEST_BLOCK = 32 << 20
_KEPT = 256 << 20


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB of freed memory in blocks of at most 32 MiB.

    Results do not depend on it.

    Returns:
        Whether it does. Not without glibc, nor if the user has set the allocator's parameters by
        MALLOC_* or GLIBC_TUNABLES.
    """
    if sys.platform != "linux":
        return False
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT))
