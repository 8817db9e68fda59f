"""Cells that end their workers, raise or block, for a process that imports this by name.

A function that runs elsewhere cannot lie in a test module: `pytest` gives those names that no
other process can import.
"""

import os
import signal
from pathlib import Path

from faults.forked import fork_workers
from faults.world import _ubench
from helpers import small_data

from unlearnable_bench.datasets.npz import write_npz
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import pool

DEADLY = '''
"""Ends its process."""
import ctypes
import os
from dataclasses import dataclass
from unlearnable_bench import Attack

@dataclass(frozen=True, kw_only=True)
class Deadly(Attack):
    """Ends its process."""
    surrogate = "none"

    def generate(self, images, harness):
        os.kill(os.getpid(), 9)

@dataclass(frozen=True, kw_only=True)
class Wrong(Attack):
    """Raises."""
    surrogate = "none"

    def generate(self, images, harness):
        with open("tried", "a") as file:
            file.write("x")
        raise ValueError("not today")

@dataclass(frozen=True, kw_only=True)
class Blocked(Attack):
    """Waits in a library, which nothing but the end of its process interrupts."""
    surrogate = "none"

    def generate(self, images, harness):
        ctypes.CDLL(None).sleep(600)
'''


FROZEN = '''
"""Keeps the interpreter for ever when it is tried first, as a deadlock in a driver does."""
import ctypes
import os
from dataclasses import dataclass
from unlearnable_bench import Attack
from unlearnable_bench.attacks.random import Random

@dataclass(frozen=True, kw_only=True)
class Frozen(Attack):
    """Keeps the interpreter when it is tried first."""
    surrogate = "none"

    def generate(self, images, harness):
        if not os.path.exists("tried"):
            open("tried", "w").close()
            while True:
                ctypes.PyDLL(None).sleep(600)
        return Random().generate(images, harness)
'''


def frozen(folder: Path) -> tuple[int, str, str, str]:
    """Run a plan whose worker is frozen once; return code, output, errors and the stacks."""
    os.chdir(folder)
    write_npz(small_data(), Path("d.npz"))
    Path("frozen.py").write_text(FROZEN)
    fork_workers()
    for stream, name in ((1, "printed"), (2, "warned")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream)
    pool._FROZEN, pool._DYING = 6.0, 2.0
    os.environ["COLUMNS"] = "200"
    code = _ubench((
        "run", "--methods", "frozen,random", "--plugin", "frozen.py", "--dataset", "npz:d.npz",
        "--preset", "smoke", "--set", "training.epochs=1", "--workers", "2", "--out", "out",
        "--device", "cpu",
    ))  # fmt: skip
    (stacks,) = Path("out/work").glob("frozen-*.txt")
    return code, Path("printed").read_text(), Path("warned").read_text(), stacks.read_text()


def deadly(folder: Path) -> tuple[int, str, str, list[str]]:
    """Run a plan of such cells in a folder; return code, output, errors and the failed attacks."""
    os.chdir(folder)
    write_npz(small_data(), Path("d.npz"))
    Path("deadly.py").write_text(DEADLY)
    fork_workers()
    for stream, name in ((1, "printed"), (2, "warned")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["COLUMNS"] = "200"
    code = _ubench((
        "run", "--methods", "deadly,wrong,blocked,random", "--stall-limit", "3s", "--plugin",
        "deadly.py", "--dataset", "npz:d.npz", "--preset", "smoke", "--set", "training.epochs=1",
        "--workers", "2", "--out", "out", "--device", "cpu",
    ))  # fmt: skip
    failures = [one["labels"]["attack"] for one in ResultsFolder(Path("out")).failures().values()]
    return code, Path("printed").read_text(), Path("warned").read_text(), failures
