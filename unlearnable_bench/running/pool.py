"""Worker processes of this machine, e.g. one per GPU: started, shown, replaced if they are lost.

The workers divide the cells by the locks in the results folder, so a lost worker's cell is free for
the others. This process holds no lock.
"""

import json
import os
import selectors
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.results.intervals import count
from unlearnable_bench.running import interruption
from unlearnable_bench.running.executor import Summary
from unlearnable_bench.running.finished import is_done
from unlearnable_bench.running.processes import how_it_ended, worker_command
from unlearnable_bench.running.tally import Tally
from unlearnable_bench.running.work import Work
from unlearnable_bench.stop import Stop

_LOSSES = 3  # workers that a cell, or a seat without a finished cell, may lose
_LOOK = 0.2  # seconds between two looks at signals
# Seconds without a beat. Code that keeps all other threads waiting for longer than the slowest
# import of torch is deadlocked: one thread has the interpreter and waits for a lock of the GPU's
# driver, which another holds that waits for the interpreter.
_FROZEN = 300.0
_DYING = 5.0  # seconds in which a frozen worker writes its stacks


@dataclass(frozen=True)
class Seat:
    """A place for one worker process.

    Attributes:
        name: for progress and messages, such as `gpu 0`.
        environment: variables that differ from those of this process.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Worker:
    seat: Seat
    process: subprocess.Popen[bytes]
    begun: set[str] = field(default_factory=set)
    loops: dict[int, "_Loop"] = field(default_factory=dict)
    pending: dict[int, bytes] = field(default_factory=dict)  # half lines, by descriptor
    ended: bool = False
    silent: float = 0.0  # seconds without an event, while it was not stopped
    stacks: list[str] | None = None  # of its threads, once it is frozen


class _Loop:
    """A loop of a worker, whose steps an event each brings to the display."""

    def __init__(self, progress: Progress, label: str, total: int) -> None:
        self._next: int | None = None
        self._shown = progress.track(label, total, self._steps())

    def _steps(self) -> Iterator[int]:
        while self._next is not None:
            yield self._next

    def begin(self, number: int) -> None:
        """Show that a step has begun, and those before it are done."""
        # The display counts a step when the next one is asked for.
        if self._next is not None and number:
            self._next = number - 1
            next(self._shown, None)
        self._next = number
        next(self._shown, None)

    def end(self) -> None:
        """Show that the loop is over."""
        self._next = None
        next(self._shown, None)


def run_workers(work: Work, seats: Sequence[Seat]) -> Summary:
    """Compute the missing cells of a plan by one worker process per seat.

    A signal, e.g. Ctrl-C, ends all workers once they have saved their state. They also end if this
    process is killed.

    Args:
        work: the plan, the results folder and the job.
        seats: the places for workers.

    Raises:
        UserError: a worker refuses the work, e.g. because the results folder was moved.
        Interrupted: by a signal; the workers have written their state.
    """
    pool = _Pool(work)
    stop = Stop(holding=True)  # a signal never interrupts the reading of events
    with interruption.postponed(stop) as saved:
        try:
            pool.run(seats[: len(work.job.cells)], stop)
        finally:
            pool.end()
            done = len(work.plan.work) - len(pool.tally.unfinished) - pool.tally.failed
            saved += [f"{done} of {count(len(work.plan.work), 'cell')} finished", *pool.tally.saved]
    return pool.tally.summary()


class _Pool:
    """The worker processes of one run.

    Attributes:
        tally: what they have reported.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._items = {item.key: item for item in work.plan.work}
        self._events = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._losses: Counter[str] = Counter()  # of cells and of seats
        self._told: set[str] = set()
        self._stopped = False
        self.tally = Tally(work)

    def run(self, seats: Sequence[Seat], stop: Stop) -> None:
        """Start a worker on each seat, and follow them to their ends."""
        for seat in seats:
            self._start(seat)
        cells, shown = _Loop(self._work.screen.progress, "cells", len(self.tally.unfinished)), -1
        looked = time.monotonic()
        while self._workers:
            finished = len(self._work.job.cells) - len(self.tally.unfinished)
            if finished != shown:
                shown = finished
                cells.begin(shown)
            if (stop.requested or self.tally.refused) and not self._stopped:
                self._stopped = True
                for worker in self._workers:
                    worker.process.send_signal(signal.SIGTERM)
            for key, _ in self._events.select(_LOOK):
                self._read(key.data, key.fd)
            now = time.monotonic()
            # This process may have been stopped, too.
            self._look_for_frozen(min(now - looked, 5 * _LOOK))
            looked = now
            # Not at the end of a pipe, which a process that a lost worker has started may hold.
            for worker in [one for one in self._workers if one.process.poll() is not None]:
                self._reap(worker)
        cells.end()
        if self.tally.refused:
            raise UserError(self.tally.refused)

    def _look_for_frozen(self, seconds: float) -> None:
        """End workers in which no Python code runs any more, not even the handler of a signal."""
        for worker in self._workers:
            if _is_stopped(worker.process.pid):  # by SIGSTOP, e.g. of a batch system
                continue
            worker.silent += seconds
            if worker.silent >= _FROZEN and worker.stacks is None:
                worker.stacks = []
                worker.process.send_signal(signal.SIGQUIT)  # it writes them to its stderr
            elif worker.silent >= _FROZEN + _DYING:
                worker.process.kill()

    def end(self) -> None:
        """End what an exception has left."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()

    def _start(self, seat: Seat) -> None:
        process = subprocess.Popen(  # noqa: S603 - this very program
            worker_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | seat.environment,
            start_new_session=True,  # Ctrl-C reaches this process only, which then ends the others
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        worker = _Worker(seat, process)
        self._workers.append(worker)
        try:
            process.stdin.write(self._work.job.to_json().encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended already, as its other pipes will show
        for pipe in (process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
            self._events.register(pipe, selectors.EVENT_READ, worker)

    def _read(self, worker: _Worker, descriptor: int) -> bool:
        """Read what a worker has written, and act on its whole lines; return whether it was any."""
        try:
            found = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return False
        if not found:
            self._events.unregister(descriptor)
            return False
        *lines, rest = (worker.pending.pop(descriptor, b"") + found).split(b"\n")
        worker.pending[descriptor] = rest
        assert worker.process.stdout
        if descriptor == worker.process.stdout.fileno() and worker.stacks is None:
            worker.silent = 0.0
        for line in lines:
            if descriptor == worker.process.stdout.fileno():
                self._take(worker, json.loads(line))
            else:
                self._tell(worker, line.decode(errors="replace"))
        return True

    def _tell(self, worker: _Worker, line: str) -> None:
        """Print a line of a worker's standard error, once if several workers print it."""
        if worker.stacks is not None:
            worker.stacks.append(line)
            return
        line = line.removeprefix("ubench: ")
        asked = self._stopped and line.startswith("interrupted by SIGTERM")
        if line and line not in self._told and line != self.tally.refused and not asked:
            self._told.add(line)
            self._work.screen.warn(f"{worker.seat.name}: {line}")

    def _take(self, worker: _Worker, event: dict[str, Any]) -> None:
        """Act on an event."""
        if "beat" in event:
            return
        if "loop" in event:
            self._show(worker, event)
            return
        if "begun" in event:
            worker.begun.add(event["begun"])
        elif "done" in event:
            self._losses[worker.seat.name] = 0
            worker.begun.discard(event["done"])
        elif "failed" in event:
            worker.begun.discard(event["failed"])
        elif "saved" in event:
            worker.begun.clear()  # it ends well
        elif "ended" in event:
            worker.ended = True
        self.tally.take(event)

    def _show(self, worker: _Worker, event: dict[str, Any]) -> None:
        number = event["loop"]
        if "step" not in event:
            if number in worker.loops:
                worker.loops.pop(number).end()
            return
        if number not in worker.loops:
            label = f"{worker.seat.name}: {event['label']}"
            worker.loops[number] = _Loop(self._work.screen.progress, label, event["total"])
        worker.loops[number].begin(event["step"])

    def _reap(self, worker: _Worker) -> None:
        """Take what a worker that has ended has written last, and what it leaves behind."""
        process = worker.process
        code = process.wait()
        self._workers.remove(worker)
        for pipe in (process.stdout, process.stderr):
            while pipe and pipe.fileno() in self._events.get_map():
                if not self._read(worker, pipe.fileno()):
                    break
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                if pipe.fileno() in self._events.get_map():
                    self._events.unregister(pipe)
                pipe.close()
        for loop in worker.loops.values():
            loop.end()
        ended = how_it_ended(code) if worker.stacks is None else self._frozen(worker)
        if not worker.ended and not self._stopped and not self.tally.refused:
            self._replace(worker, code, ended)

    def _frozen(self, worker: _Worker) -> str:
        """Write the stacks of a worker that was frozen, and return how it ended."""
        path = Path(self._work.job.out) / "work" / f"frozen-{worker.process.pid}.txt"
        with suppress(OSError):
            path.write_text("\n".join(worker.stacks or []) + "\n")
        return f"ran no code for {_FROZEN:.0f} s, a deadlock, and was ended (its threads: {path})"

    def _replace(self, worker: _Worker, code: int, ended: str) -> None:
        """Replace a worker that was lost, unless it was lost too often."""
        line = f"{worker.seat.name}: worker process {worker.process.pid} {ended}"
        self._losses.update([worker.seat.name, *worker.begun])
        fatal = {key for key in worker.begun if self._losses[key] >= _LOSSES}
        for keys, what in ((worker.begun - fatal, "free"), (fatal, "given up")):
            if keys:
                names = "; ".join(sorted(self._items[key].name for key in keys))
                cells = "its cell is" if len(keys) == 1 else "its cells are"
                line += f"; {cells} {what} ({names})"
        self._work.screen.warn(line)
        for key in fatal:
            self._give_up(key, f"{_LOSSES} worker processes were lost at it; the last {ended}")
        if code >= 128 or not self.tally.unfinished:
            return  # a worker that somebody ended by a signal is not wanted
        if self._losses[worker.seat.name] < _LOSSES:
            self._start(worker.seat)
        else:
            self._work.screen.warn(
                f"{worker.seat.name}: computes no more, because {_LOSSES} worker processes were "
                "lost there without a finished cell; the same command uses it again"
            )

    def _give_up(self, key: str, reason: str) -> None:
        """Store that a cell failed, unless another worker computes it."""
        folder, item = self._work.folder, self._items[key]
        with folder.claim(key, wait=False) as mine:
            if not mine or is_done(folder, item):
                return
            folder.write_failure(key, item.labels, reason, reason, self._work.job.id)
        self.tally.lost(key, reason)


def _is_stopped(process: int) -> bool:
    """Return whether a child of this process is stopped by a signal."""
    with suppress(ChildProcessError):
        state = os.waitid(os.P_PID, process, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        return state is not None
    return False
