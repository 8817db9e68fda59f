"""A small command in a folder of its own, its result, and repetitions of it under faults.

A `World` lives in a process of its own (`elsewhere`), which has imported everything and run the
command once. Each repetition is a fork of it, and takes a third of a second; a fresh process that
has only imported everything takes more than three times as long. The process of the `World` has one
thread, so that a fork lacks nothing: no lock is held by a thread that it does not have.
"""

import faulthandler
import gc
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from processes import FORKSERVER

from faults import outcome
from unlearnable_bench import cli
from unlearnable_bench.harness import pauses
from unlearnable_bench.harness.checkpoint import Checkpoint

T = TypeVar("T")

ALL = os.environ.get("UBENCH_FAULTS") == "all"
_SECONDS = 120  # of a command, after which it hangs
_ALWAYS = (
    "training.epochs=2", "training.batch_size=8", "small-cnn.width=4", "sem.steps=2",
    "sem.noise_steps=1", "sem.samples=1", "sem.attack_steps=1", "sem.batch_size=12",
    "imagenet-subset.classes=4", "imagenet-subset.size=8", "imagenet-subset.crop=8",
)  # fmt: skip
_ADVERSARIAL = ("adversarial.epochs=1", "adversarial.batch_size=8", "adversarial.pgd_steps=1")


def _command(*words: str, settings: tuple[str, ...]) -> tuple[str, ...]:
    options = [word for setting in (*_ALWAYS, *settings) for word in ("--set", setting)]
    data = ("--dataset", "imagenet-subset:pictures")  # decoded into the cache
    return (*words, *data, "--preset", "smoke", "--device", "cpu", "--out", "out", *options)


COMMANDS = {
    # A clean surrogate, and one of its own with a state in between.
    "run": _command("run", "--methods", "tap,sem", "--no-clean",
                    settings=("tap.steps=2", "sem.stop=1")),
    # Nine cells, and two measurements of robustness with a reference network.
    "correlate": _command("correlate", "--surrogate-rho-a", "4/255", "--noise", "uniform",
                          "--stops", "1", settings=_ADVERSARIAL),
}  # fmt: skip

# Files and folders of others, which look a little like ours.
FOREIGN = (
    "thesis.tex", "home/paper.npz", "home/.mine.tmp/a", "out/cells/README.txt", "out/work/notes",
    "out/networks/mine.pt", "out/.mine.tmp/a", "out/poisons/.mine.0123456789.tmp/a",
)  # fmt: skip


@dataclass
class Tally:
    """Faults that were injected, and what went wrong after them."""

    injected: int = 0
    wrong: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)

    def add(self, fault: str, wrong: list[str]) -> None:
        self.injected += 1
        if wrong:
            self.faulty.add(fault)
            self.wrong += [f"{fault}: {one}" for one in wrong]


class _NoWatch:
    """Looks for no pauses, and so needs no thread."""

    def paused(self) -> float:
        return 0.0


@dataclass(frozen=True)
class Result:
    """How a command ended; the exit code is negative after a signal."""

    code: int
    text: str

    @property
    def tables(self) -> list[str]:
        """The lines of the tables that it printed."""
        return [line for line in self.text.splitlines() if line[:1] in tuple("│|")]


def elsewhere(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a new process that has imported everything, and return its result."""
    with ProcessPoolExecutor(1, mp_context=FORKSERVER) as pool:
        return pool.submit(function, *arguments).result()


def sample(total: int, count: int, seed: int = 0) -> list[int]:
    """Return numbers from 0 to below `total`, spread evenly: `count`, or all of them."""
    if ALL or total <= count:
        return [*range(total)]
    draw = random.Random(seed)
    edges = [k * total // count for k in range(count + 1)]
    return [draw.randrange(*pair) for pair in pairwise(edges)]


class World:
    """A folder with data, a command, and its undisturbed result.

    Attributes:
        command: the words after `ubench`.
        reference: what the undisturbed command made.
        folder: the current folder; results are in `out`, the cache is `home`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.command = folder, COMMANDS[name]
        os.chdir(folder)
        os.environ |= {"UBENCH_HOME": str(folder / "home"), "COLUMNS": "200"}
        torch.set_num_threads(1)
        assert Checkpoint.__init__.__defaults__ == (60.0,)
        Checkpoint.__init__.__defaults__ = (0.0,)  # after every step, not every minute
        pauses._WATCH = _NoWatch()  # type: ignore[assignment]
        _write_data()
        self._warm()
        self._marker = Path("out/ubench.json").read_bytes()
        self.clear(kept=True)
        done = self.attempt()
        assert done.code == 0, done.text
        self.reference = outcome.of(Path("out"))
        self.files = self._files()
        self.tables = done.tables
        self.report = self.attempt(command=("report", "out"))
        assert self.report.code == 0, self.report.text
        assert self.tables
        assert self.report.tables
        self._copy = folder.parent / f"{folder.name}-reference"
        shutil.copytree(".", self._copy, symlinks=True)

    def _warm(self) -> None:
        """Run the command here, so that its repetitions need not load anything."""
        quiet = os.open(os.devnull, os.O_WRONLY)
        kept = os.dup(1), os.dup(2)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        try:
            for command in (self.command, ("report", "out")):
                assert _ubench(command) == 0
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os.dup2(kept[0], 1), os.dup2(kept[1], 2)
        # Each cell collects garbage, for which none of all this need be read.
        gc.collect()
        gc.freeze()

    def clear(self, *, kept: bool) -> None:
        """Remove results and cache; with `kept`, make the folder with files of others in it."""
        for path in (Path("out"), Path("home")):
            _remove(path)
        if kept:
            Path("out").mkdir()
            Path("out/ubench.json").write_bytes(self._marker)
            for name in FOREIGN:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_text(f"{name} is precious")
                os.utime(Path(name).parent, (1e9, 1e9))

    def restore(self) -> None:
        """Bring back the undisturbed result, with files of others in it."""
        for name in ("out", "home"):
            _remove(Path(name))
            shutil.copytree(self._copy / name, name, symlinks=True)

    def attempt(
        self,
        disturb: Callable[[], object] = lambda: None,
        command: tuple[str, ...] | None = None,
    ) -> Result:
        """Run a command, or this one, in a fork; what `disturb` changes ends with it."""
        return self.wait(self.begin(disturb, command and partial(_ubench, command)))[0]

    def begin(
        self,
        disturb: Callable[[], object] = lambda: None,
        work: Callable[[], int] | None = None,
    ) -> tuple[int, int]:
        """Start the command, or other work, in a fork.

        Returns:
            The process and the pipe of what it prints.
        """
        receive, send = os.pipe()
        sys.stdout.flush(), sys.stderr.flush()
        # Also those that a library starts.
        assert len([*Path("/proc/self/task").iterdir()]) == 1, threading.enumerate()
        pid = os.fork()
        if pid:
            os.close(send)
            return pid, receive
        code = 70
        try:
            os.dup2(send, 1), os.dup2(send, 2), os.close(send), os.close(receive)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.alarm(_SECONDS)
            faulthandler.enable()  # says where a process was when it crashed
            pauses._WATCH = pauses._Watch()
            disturb()
            code = _ubench(self.command) if work is None else work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)

    def wait(self, *started: tuple[int, int]) -> list[Result]:
        """Wait for commands that `begin` started; the first that ends is reaped first."""
        # One that was killed and not reaped would count as alive, and hold its soft locks.
        ended = dict(os.wait() for _ in started)
        results = []
        for pid, receive in started:
            with os.fdopen(receive, "rb") as pipe:
                text = pipe.read().decode(errors="replace")
            results.append(Result(os.waitstatus_to_exitcode(ended[pid]), text))
        return results

    def disturbed(self, done: Result, *, kept: bool) -> Iterator[str]:
        """Yield what is wrong right after a command that was disturbed."""
        if done.code == -signal.SIGALRM:
            yield f"hangs: {done.text[-500:]}"
        if "Traceback" in done.text:
            yield f"traceback: {done.text[-1500:]}"
        if done.code == 0 and done.tables != self.tables:
            yield f"exit code 0 with other tables: {done.text[-500:]}"
        yield from outcome.contradictions(Path("out"), self.reference)
        if kept:
            yield from _foreign()

    def repeated(self, before: Result, *, kept: bool, damaged: bool = False) -> Iterator[str]:
        """Yield what is wrong after the same command is run again an hour later.

        Args:
            before: of the disturbed command. If it said that the samples of a finished cell could
                not be written, they are still missing.
            kept: as in `clear`.
            damaged: files may have been set aside.
        """
        _an_hour_passes()
        done = self.attempt()
        if done.code:
            yield f"the next run ends with {done.code}: {done.text[-1500:]}"
        if done.tables != self.tables:
            yield f"the next run prints other tables: {done.text[-500:]}"
        for line in self.settled(kept=kept, damaged=damaged):
            sample = line.startswith(("strips/", "noise/")) and line.endswith(" is missing")
            if not (sample and "figures will lack them" in before.text):
                yield line

    def settled(self, *, kept: bool, damaged: bool = False) -> Iterator[str]:
        """Yield what is wrong with the final folder; `damaged`: files may have been set aside."""
        found = outcome.of(Path("out"))
        yield from outcome.differences(found, self.reference)
        left = sorted(self._files() - self.files)
        left = [name for name in left if not (damaged and "damaged" in Path(name).parts)]
        if left:
            trace = Path("home/last-error.txt")
            yield f"left over: {left} {trace.read_text() if trace.exists() else ''}"
        if kept:
            yield from _foreign()
        report = self.attempt(command=("report", "out"))
        if (report.code, report.tables) != (0, self.report.tables):
            yield f"the report ends with {report.code}: {report.text[-500:]}"

    def _files(self) -> set[str]:
        found = {str(path) for top in ("out", "home") for path in Path(top).rglob("*")}
        return found - {"out/failures"}  # empty, after failures that a later run removed


def _ubench(command: tuple[str, ...]) -> int:
    sys.argv = ["ubench", *command]
    try:
        cli.main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1


def _foreign() -> Iterator[str]:
    for name in FOREIGN:
        try:
            if Path(name).read_text() != f"{name} is precious":
                yield f"{name} was changed"
        except OSError as error:
            yield f"{name} is lost: {error}"


def _an_hour_passes() -> None:
    """Make temporary folders and soft locks as old as those that the next run clears."""
    then = time.time() - 3600
    for top in ("out", "home"):
        for pattern in (".*.tmp", "*.soft"):
            for path in Path(top).rglob(pattern):
                os.utime(path, (then, then))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_data() -> None:
    """Write pictures of 8 px in four classes, which differ in colour."""
    draw = np.random.default_rng(0)
    colours = np.array([[150, 110, 110], [110, 150, 110], [110, 110, 150], [150, 150, 110]])
    for folder, count in (("train", 24), ("val", 20)):
        for index in range(count):
            noise = draw.normal(0, 40, (8, 8, 3))
            image = np.clip(colours[index % 4] + noise, 0, 255).astype(np.uint8)
            path = Path("pictures", folder, "abcd"[index % 4], f"{index:02}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
