"""The processes that generate one noise together, one on each card: started, watched and ended.

The process that computes the cell leads. It starts the others, which read the job, make the same
plan and follow; they end with it.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import torch
from torch import distributed

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.group import Group
from unlearnable_bench.running.processes import how_it_ended, worker_command

_LOOK = 0.05  # seconds between two looks at processes that start
_PATIENCE = 10.0  # seconds in which a process whose transfer broke off is seen to end
_ENDING = 60.0  # seconds in which followers end by themselves

# torch.distributed has one default group in a process.
_ONE = threading.Lock()


class Seat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a follower gets besides the job, as JSON.

    Attributes:
        rank: its number, from 1.
        size: number of processes.
        store: file through which the processes find each other.
        poison: key of the poison.
    """

    rank: int
    size: int
    store: str
    poison: str


@dataclass(frozen=True)
class Shards:
    """The processes that divide a worker's noise generations.

    Attributes:
        job: the worker's job, as one line of JSON.
        cards: value of CUDA_VISIBLE_DEVICES of each process, the worker's first.
    """

    job: str
    cards: tuple[str, ...]

    @contextmanager
    def led(self, poison: str, device: torch.device) -> Iterator[Group]:
        """Start the followers of a generation, and end them with it.

        Args:
            poison: key of the poison.
            device: device of this process.

        Raises:
            UserError: a follower cannot take part, or is lost.
        """
        with _ONE, tempfile.TemporaryDirectory(prefix="ubench-") as folder:
            store = Path(folder) / "store"
            size = len(self.cards)
            seats = [
                Seat(rank=rank, size=size, store=str(store), poison=poison)
                for rank in range(1, size)
            ]
            followers = _Followers([self._start(seat, device) for seat in seats])
            ends_well, over = False, threading.Event()
            if device.type == "cuda":
                threading.Thread(target=followers.watch, args=(over,), daemon=True).start()
            try:
                joined(store, 0, size, device, followers.check)
                yield Group(0, size, device, followers.check, followers.failed)
                ends_well = True
            finally:
                over.set()
                if not ends_well:
                    followers.kill()
                left(device, aborted=not ends_well)
                followers.end()

    def _start(self, seat: Seat, device: torch.device) -> subprocess.Popen[bytes]:
        own = {"CUDA_VISIBLE_DEVICES": self.cards[seat.rank]} if device.type == "cuda" else {}
        process = subprocess.Popen(  # noqa: S603 - this very program
            worker_command("--follow"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | own,
            start_new_session=True,  # a signal of the terminal is for the process that leads
        )
        assert process.stdin
        with suppress(BrokenPipeError):  # it has ended already
            process.stdin.write(f"{self.job}\n".encode() + msgspec.json.encode(seat) + b"\n")
            process.stdin.flush()
        return process


@dataclass(frozen=True)
class _Followers:
    """The other processes, by their ranks from 1."""

    processes: list[subprocess.Popen[bytes]]

    def check(self) -> None:
        """Raise an error if a follower is lost."""
        for rank, process in enumerate(self.processes, 1):
            if process.poll():  # neither running nor ended well
                raise UserError(self._reason(rank, process))

    def failed(self, _error: RuntimeError) -> None:
        """Raise why a transfer broke off, if a follower is lost."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            self.check()
            time.sleep(_LOOK)

    def watch(self, over: threading.Event) -> None:
        """End the transfers of this process if a follower is lost while it waits for the GPU.

        Args:
            over: set once the generation has ended.
        """
        while not over.wait(1.0):
            if any(process.poll() for process in self.processes):
                if not over.wait(_PATIENCE):
                    _abort()
                return

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def end(self) -> None:
        """Wait for the followers, and end those that hang."""
        until = time.monotonic() + _ENDING
        for process in self.processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with suppress(BrokenPipeError):
                        pipe.close()

    def _reason(self, rank: int, process: subprocess.Popen[bytes]) -> str:
        where = f"process {rank + 1} of {len(self.processes) + 1}"
        assert process.stdout
        text = process.stdout.read()
        if text.strip():
            return f"{where}: {json.loads(text)['error']}"
        return (
            f"{where} {how_it_ended(process.returncode)}; run the same command again to resume, "
            "also with another --shard"
        )


def joined(
    path: Path,
    rank: int,
    size: int,
    device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Join the processes of a generation, once all of them have started.

    Args:
        path: file through which they find each other.
        rank: number of this process.
        size: number of processes.
        device: device of this process.
        check: called while others start.
    """
    if sys.platform == "linux":  # all processes are on this machine
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    # A lost process is noticed by the one that leads. NCCL's own threads would end that one too.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    os.environ.setdefault("TORCH_NCCL_ENABLE_MONITORING", "0")
    forever = timedelta(days=365)
    store = distributed.FileStore(str(path), size)  # type: ignore[attr-defined]
    store.set(f"started {rank}", "")
    while not store.check([f"started {other}" for other in range(size)]):
        check()
        time.sleep(_LOOK)
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=forever
    )


def left(device: torch.device, *, aborted: bool) -> None:
    """Leave the processes of a generation.

    Args:
        device: device of this process.
        aborted: whether transfers may hang, as after the loss of a process.
    """
    if not distributed.is_initialized():
        return
    if aborted and device.type == "cuda":
        _abort()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _abort() -> None:
    """End the kernels that wait for a lost process, so that the GPU computes again."""
    with suppress(Exception):  # a private function, of torch 2.6 and later
        distributed.distributed_c10d._abort_process_group()  # noqa: SLF001
