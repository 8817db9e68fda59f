"""Worker processes forked from the process that starts them, which has imported everything."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unlearnable_bench import cli
from unlearnable_bench.planning import registry
from unlearnable_bench.running import interruption, pool


class Forked:
    """What `subprocess.Popen` is for the pool of workers, in a third of a second.

    Attributes:
        prepared: called in each worker with its number, before its command.
    """

    prepared: Callable[[int], object] = staticmethod(lambda _number: None)
    count = 0

    def __init__(self, command: Sequence[str], env: Mapping[str, str], **_more: Any) -> None:
        pipes = [os.pipe() for _ in range(3)]
        ours, theirs = (
            (pipes[0][1], pipes[1][0], pipes[2][0]),
            (pipes[0][0], pipes[1][1], pipes[2][1]),
        )
        number = Forked.count
        Forked.count += 1
        sys.stdout.flush(), sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            code = 70
            try:
                self._become(theirs, command)
                Forked.prepared(number)
                cli.main()
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            finally:
                sys.stdout.flush(), sys.stderr.flush()
                os._exit(code)
        for descriptor in theirs:
            os.close(descriptor)
        self.stdin = os.fdopen(ours[0], "wb")
        self.stdout, self.stderr = (os.fdopen(one, "rb") for one in ours[1:])
        self._code: int | None = None

    @staticmethod
    def _become(pipes: Sequence[int], command: Sequence[str]) -> None:
        """Change this fork into a process of its own."""
        os.setsid()
        for target, descriptor in enumerate(pipes):
            os.dup2(descriptor, target)
        os.closerange(3, 1024)  # pipes of the other workers, which must see their end
        for each in interruption.SIGNALS:
            signal.signal(
                each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL
            )
        for kind in registry.REGISTRIES.values():
            kind._from_files.clear()
        sys.stdin = os.fdopen(0)
        sys.argv = ["ubench", *command[command.index("worker") :]]
        with Path("workers").open("a") as file:
            file.write(f"{os.getpid()}\n")

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork_workers(prepared: Callable[[int], object] = lambda _number: None) -> None:
    """Let `ubench run --workers` in this process fork its workers."""
    Forked.prepared = staticmethod(prepared)
    Forked.count = 0
    Path("workers").touch()
    names = SimpleNamespace(Popen=Forked, PIPE=None)
    pool.subprocess = names  # type: ignore[assignment]


def living_workers() -> list[int]:
    """Return the workers that have not ended; one that nobody waits for has."""
    return [pid for pid in map(int, Path("workers").read_text().split()) if _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"
