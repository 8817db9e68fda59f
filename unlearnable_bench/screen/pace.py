"""Hints that steps on the CPU are slow because other programs use the cores."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from unlearnable_bench.harness.pauses import paused_seconds
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.planning.plan import Plan

_SLOW = 4  # times the estimate, which is usually within a factor of two
_SECONDS = 10  # before which the pace of a loop is not judged
_COMPARED = 2  # seconds that a call may take to be compared with one thread


def crowded(call: Callable[[], Any], seconds: float) -> str:
    """Return a hint if a call is clearly faster with one thread than with all, otherwise "".

    Args:
        call: a computation on the CPU.
        seconds: what it takes with the current number of threads.
    """
    threads = torch.get_num_threads()
    if threads == 1 or seconds > _COMPARED:
        return ""
    torch.set_num_threads(1)
    try:
        started = time.perf_counter()
        call()
        alone = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    if alone > seconds / 1.5:
        return ""
    return (
        f"with one thread a step takes {alone / seconds:.0%} of its time with {threads}; other "
        "programs may use the cores: try --threads 1"
    )


class Pace:
    """The time that the training of each cell should take, and a hint if it takes far longer.

    Args:
        plan: the cells.
        pack: number of cells that are trained at the same time.
    """

    def __init__(self, plan: Plan, pack: int) -> None:
        self._cells, self._pack = plan.cells, pack
        self._expected: dict[str, float] = {}
        self._warned = False

    def expect(self, seconds_per_pass: float) -> None:
        """Expect training steps of the first learner to take the time of their image passes."""
        for cell in self._cells:
            # Other learners were not measured, and a defense may need any time.
            if cell.learner != self._cells[0].learner or cell.defense.name != "none":
                continue
            passes = cell.training.image_passes(cell.images, cell.rho_a)
            # The tests are in the loop too, without the backward pass.
            tests = cell.training.total_epochs(cell.images) * len(cell.poison.data.test)
            seconds = seconds_per_pass * self._pack * (passes + tests / 3)
            self._expected[f"{cell.name}: training"] = seconds  # the worker's name of the loop

    def watch(self, inner: Progress, say: Callable[[str], None]) -> Progress:
        """Return progress that says once if the steps of a loop take several times as long."""
        return _Watched(self, inner, say)

    def check(self, label: str, total: int, steps: int, seconds: float) -> str:
        """Return the hint if it is due and was not given yet, otherwise ""."""
        expected = self._expected.get(label)
        if not expected or self._warned or seconds < _SECONDS:
            return ""
        times = seconds / (expected * steps / total)
        if times < _SLOW:
            return ""
        self._warned = True
        hint = "try --threads 1" if torch.get_num_threads() > 1 else "compare with `top`"
        return (
            f"slow: a step takes {times:.0f} times the estimate; other programs may use the "
            f"cores: {hint}"
        )


class _Watched:
    def __init__(self, pace: Pace, inner: Progress, say: Callable[[str], None]) -> None:
        self._pace, self._inner, self._say = pace, inner, say

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`."""
        started = time.monotonic() - paused_seconds()
        for done, step in enumerate(self._inner.track(label, total, steps), 1):
            yield step
            seconds = time.monotonic() - paused_seconds() - started
            hint = self._pace.check(label, total, done, seconds)
            if hint:
                self._say(hint)
