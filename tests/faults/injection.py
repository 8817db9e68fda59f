"""A fault at file operation n of this process."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from faults.world import World
from unlearnable_bench.harness import checkpoint, weights
from unlearnable_bench.results import samples, store

_CHANGES = {
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.link",
    "os.symlink",
}  # fmt: skip
_READS = {"os.listdir", "os.scandir"}
_GROWS = {"os.mkdir"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Operations:
    """Counts the file operations of this process below a folder, and disturbs them.

    Python reports most operations to an audit hook before they happen. Flushes, and the files that
    safetensors writes in compiled code, are counted by replaced functions.

    Attributes:
        root: the folder.
        act: called with the number of each operation and its path; it may raise or kill.
        kinds: `changes` of files, `growth` (what needs space on the disk), `opens` (what needs a
            file descriptor), or `all`, also what reads.
        count: number of operations so far.
    """

    root: Path
    act: Callable[[int, str], object]
    kinds: str = "changes"
    count: int = 0
    _within: bool = False

    def watch(self) -> None:
        """Begin; there is no end, so only in a process that ends itself."""
        sys.addaudithook(self._audit)
        for name in ("fsync", "pwrite"):
            setattr(os, name, self._counted(getattr(os, name), OSError))
        for module in (checkpoint, weights, samples, store):
            module.save_file = self._counted(module.save_file, SafetensorError)  # type: ignore[attr-defined]

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._within or not self._counts(event, arguments):
            return
        path = arguments[0]
        if isinstance(path, (str, bytes, os.PathLike)):
            # Names within a folder that is being removed are relative to that folder.
            if not (self.root / os.fsdecode(path)).is_relative_to(self.root):
                return
        elif event == "open":
            return
        self._one(str(path))

    def _counts(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            return self.kinds in ("all", "opens") or bool(flags & _WRITING)
        if self.kinds == "opens":
            return event in _READS
        if self.kinds == "growth":
            return event in _GROWS
        return event in _CHANGES or (self.kinds == "all" and event in _READS)

    def _one(self, path: str) -> None:
        self.count += 1
        self._within = True
        try:
            self.act(self.count - 1, path)
        finally:
            self._within = False

    def _counted(self, function: Callable[..., Any], kind: type[Exception]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            path = str(arguments[1]) if kind is SafetensorError else "a file"
            if self.kinds != "opens" or kind is SafetensorError:
                try:
                    self._one(path)
                except OSError as error:
                    if kind is OSError:
                        raise
                    text = f"{error.strerror} (os error {error.errno})"
                    raise SafetensorError(f"I/O error: {text}") from None
            return function(*arguments, **options)

        return call


def killing(root: Path, number: int, which: signal.Signals) -> Callable[[], None]:
    """Return a disturbance that sends a signal to itself before operation `number`."""

    def act(now: int, _path: str) -> None:
        if now == number:
            os.kill(os.getpid(), which)

    return Operations(root, act).watch


def failing(root: Path, number: int, code: int, kinds: str, *, lasting: bool) -> Callable[[], None]:
    """Return a disturbance by which operation `number`, or all from it on, fail with an errno."""

    def act(now: int, path: str) -> None:
        if now == number or (lasting and now > number):
            raise OSError(code, os.strerror(code), path)

    return Operations(root, act, kinds).watch


def operations(world: World, kinds: str) -> int:
    """Return the number of file operations of the undisturbed command."""
    world.clear(kept=False)
    receive, send = os.pipe()
    world.attempt(Operations(world.folder, lambda *_: os.write(send, b"."), kinds).watch)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        return len(pipe.read())


def halfway(world: World) -> None:
    """Bring the command into a state with checkpoints, by killing it."""
    total = operations(world, "changes")
    for number in range(total * 2 // 5, total):
        world.clear(kept=True)
        world.attempt(killing(world.folder, number, signal.SIGKILL))
        if [*Path("out/work").glob("*.safetensors")]:
            return
    raise AssertionError("no operation leaves a checkpoint")
