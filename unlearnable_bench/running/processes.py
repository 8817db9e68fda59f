"""Worker processes of this program: their command, and how one ended."""

import signal
import sys


def worker_command(*more: str) -> list[str]:
    """Return the command of a worker process.

    It reads a job from the first line of its standard input and prints events; with `--job FILE`
    it reads a file and prints text; with `--follow` it helps another worker to make a noise.
    """
    # -P: the current folder may have modules of the same names.
    return [sys.executable, "-P", "-m", "unlearnable_bench", "worker", *more]


def how_it_ended(code: int) -> str:
    """Return how a process ended, as the end of a sentence.

    Args:
        code: exit code, or the negative number of a signal.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
