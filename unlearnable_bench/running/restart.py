"""Replaces this process by the same command without the cells that end or block processes."""

import logging
import os
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NoReturn

from unlearnable_bench.planning.plan import Plan, PoisonPlan
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.stall import Item
from unlearnable_bench.storage.disk import DiskError
from unlearnable_bench.storage.locks import release_soft

_LOG = logging.getLogger(__name__)

_GIVEN_UP = "UBENCH_GIVEN_UP"


def given_up() -> frozenset[str]:
    """Return the keys of cells that earlier processes of this command gave up."""
    return frozenset(filter(None, os.environ.get(_GIVEN_UP, "").split(",")))


def giving_up(
    plan: Plan,
    folder: ResultsFolder,
    restart: Callable[[Collection[str]], object],
    job: str = "",
) -> Callable[[Item, str, str], None]:
    """Return what to do about a cell that blocks its process: mark it, and restart.

    If its noise was being made, all cells of this noise are marked.

    Args:
        plan: the plan.
        folder: the results folder.
        restart: called with the keys of the cells.
        job: identifies the run of several workers, if any.
    """

    def lost(item: Item, reason: str, stack: str) -> None:
        poison = item if isinstance(item, PoisonPlan) else item.poison
        stuck = [one for one in plan.work if one.key == item.key]
        if not folder.has_poison(poison.key) and "generate" in stack:
            stuck = [one for one in plan.work if one.poison.key == poison.key]
        _LOG.warning("ubench: %s: %s; the run starts again without it", item.name, reason)
        for one in stuck:
            with suppress(OSError, DiskError):
                folder.write_failure(one.key, one.labels, reason, stack, job)
        restart([one.key for one in stuck])

    return lost


def restart_without(keys: Collection[str]) -> NoReturn:
    """Start the command again in place of this process, which keeps its number.

    The system frees the locks, the memory and the GPU of the old one.

    Args:
        keys: keys of the cells that the new process must not compute.
    """
    release_soft()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    names = ",".join(sorted(given_up().union(keys)))
    environment = os.environ | {_GIVEN_UP: names}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
