"""The command in processes of its own, forked from one that has imported everything."""

import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import torch

from unlearnable_bench import cli
from unlearnable_bench.harness.checkpoint import Checkpoint

# Imported once: in each process it would take longer than most of what the tests run.
FORKSERVER: ForkServerContext = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(
    ["torch._dynamo", "unlearnable_bench.cli", "unlearnable_bench.api", "scipy.stats", "pandas"]
    + [f"unlearnable_bench.{name}" for name in ("attacks.sem", "running.worker", "console")]
)


def start(*arguments: str, output: Path, save_each_step: bool = False) -> ForkServerProcess:
    """Start `ubench`; what it prints goes to the files `output`.out and `output`.err.

    Args:
        arguments: of the command.
        output: the files without their endings.
        save_each_step: write checkpoints after every step, not every minute.
    """
    process = FORKSERVER.Process(target=_ubench, args=(arguments, output, save_each_step))
    process.start()
    return process


def finish(*processes: ForkServerProcess, seconds: float = 240) -> list[int | None]:
    """Wait for processes and return their exit codes."""
    for process in processes:
        process.join(seconds)
    return [process.exitcode for process in processes]


def printed(output: Path) -> tuple[str, str]:
    return output.with_suffix(".out").read_text(), output.with_suffix(".err").read_text()


def _ubench(arguments: tuple[str, ...], output: Path, save_each_step: bool) -> None:
    for stream, ending in ((1, ".out"), (2, ".err")):
        with output.with_suffix(ending).open("wb") as file:
            os.dup2(file.fileno(), stream)
    # Tests in the background or under nohup start with these ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ["COLUMNS"] = "200"
    torch.set_num_threads(1)
    if save_each_step:
        assert Checkpoint.__init__.__defaults__ == (60.0,)
        Checkpoint.__init__.__defaults__ = (0.0,)
    sys.argv = ["ubench", *arguments]
    cli.main()
