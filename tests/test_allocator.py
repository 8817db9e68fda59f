"""Freed memory that a process keeps on a CPU."""

import ctypes
import os
import subprocess
import sys

import pytest

from unlearnable_bench.running.allocator import keep_freed_memory

# Prints how many blocks of 16 MiB come from the system by themselves, and how much of one the
# allocator keeps after it was freed, in MiB (man 3 mallinfo).
_BLOCK = """
import ctypes, sys
from unlearnable_bench.running.allocator import keep_freed_memory

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype = Info, ctypes.c_void_p
if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = libc.mallinfo2()
block = libc.malloc(ctypes.c_size_t(16 << 20))
there = libc.mallinfo2()
libc.free(ctypes.c_void_p(block))
after = libc.mallinfo2()
print(there.hblks - before.hblks, (after.arena - before.arena) >> 20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33 or newer only")
def test_a_freed_block_stays_in_the_process() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    usual, kept = (
        subprocess.check_output([sys.executable, "-c", _BLOCK, word], env=plain, text=True).split()
        for word in ("usual", "kept")
    )
    assert usual == ["1", "0"]
    assert kept == ["0", "16"]


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert not keep_freed_memory()
