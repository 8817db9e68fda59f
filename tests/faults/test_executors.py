"""`ubench run --workers 2`: processes killed at any moment, and a folder that goes away."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from faults.forked import fork_workers, living_workers
from faults.injection import killing, operations
from faults.world import ALL, Result, Tally, World, _ubench, elsewhere
from unlearnable_bench.running.worker import Worker

COUNT = 50 if ALL else 6
OUTAGES = 30 if ALL else 2
LONGEST = 30.0 if ALL else 2.0  # seconds of an outage; the others are shorter


def test_killed_workers_and_submitters_lose_nothing(
    tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived("worker processes", elsewhere(disturb_workers, place))


def test_a_folder_that_goes_away_for_a_while_costs_nothing(
    tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived("folder away", elsewhere(take_away, place))


def disturb_workers(place: Path) -> Tally:
    world, tally, draw = World(place, "run"), Tally(), random.Random(0)
    command = (*world.command, "--workers", "2")
    total = operations(world, "changes")

    def attempt(name: str, killed: dict[int, int], end: tuple[int, float] | None = None) -> None:
        _clear(world)
        several = name.startswith("two submissions")
        started = [
            world.begin(partial(_prepare, place, killed), partial(_ubench, command))
            for _ in range(1 + several)
        ]
        if end:
            number, seconds = end
            time.sleep(seconds)
            os.kill(started[0][0], number)
        tally.add(name, [*_wrong(world, world.wait(*started), len(killed), end)])

    attempt("undisturbed", {})
    for _ in range(COUNT):
        number = draw.randrange(total // 2)
        attempt(f"SIGKILL of worker 0 at operation {number}", {0: number})
    first, second = draw.randrange(total // 2), draw.randrange(total // 2)
    attempt(f"SIGKILL of both at {first} and {second}", {0: first, 1: second})
    for which in (signal.SIGKILL, signal.SIGTERM):
        for _ in range(COUNT // 2):
            seconds = draw.uniform(0.1, 1.5)
            attempt(f"{which.name} of the submitter after {seconds:.2f} s", {}, (which, seconds))
    attempt("two submissions", {})
    for _ in range(COUNT // 6):
        seconds = draw.uniform(0.1, 1.5)
        what = f"two submissions, SIGKILL of one after {seconds:.2f} s"
        attempt(what, {}, (signal.SIGKILL, seconds))
    return tally


def take_away(place: Path) -> Tally:
    """Move the results folder away while two workers compute, and back."""
    world, tally, draw = World(place, "run"), Tally(), random.Random(0)
    command = (*world.command, "--workers", "2")
    for number in range(OUTAGES):
        _clear(world)
        started = world.begin(partial(_prepare, place, {}), partial(_ubench, command))
        before = draw.uniform(0.3, 1.5)
        seconds = draw.uniform(0.2, 1.5) if number else LONGEST
        time.sleep(before)
        Path("out").rename("away")
        time.sleep(seconds)
        Path("away").rename("out")
        wrong = [*_wrong(world, world.wait(started), 0, None)]
        tally.add(f"away after {before:.2f} s for {seconds:.1f} s", wrong)
    return tally


def _clear(world: World) -> None:
    world.clear(kept=True)
    for name in ("made", "workers"):
        Path(name).write_text("")


def _prepare(place: Path, killed: dict[int, int]) -> None:
    """Let workers be forked, which note what they compute, and some of which are killed."""

    def prepared(number: int) -> None:
        for name in ("_generate", "compute"):
            setattr(Worker, name, _noted(getattr(Worker, name)))
        if number in killed:
            killing(place, killed[number], signal.SIGKILL)()

    fork_workers(prepared)


def _noted(method: Callable[[Worker, Any], Any]) -> Callable[[Worker, Any], Any]:
    def call(worker: Worker, plan: Any) -> Any:
        found = method(worker, plan)
        with Path("made").open("a") as file:
            file.write(f"{method.__name__} {plan.key}\n")
        return found

    return call


def _wrong(
    world: World, ended: list[Result], killed: int, end: tuple[int, float] | None
) -> Iterator[str]:
    deadline = time.monotonic() + 60
    while living_workers():
        if time.monotonic() > deadline:
            yield f"workers outlive the process that started them: {living_workers()}"
            return
        time.sleep(0.02)
    codes = [one.code for one in ended]
    allowed = {0} if end is None else {0, -end[0], 128 + end[0]}
    if not {*codes} <= allowed:
        yield f"ended with {codes}: {[one.text[-1500:] for one in ended]}"
    for one in ended:
        yield from world.disturbed(one, kept=True)
    # A killed worker may have made what it could not store.
    made = Counter(Path("made").read_text().split("\n"))
    again = sum(number - 1 for line, number in made.items() if line)
    if again > killed + (end is not None and end[0] == signal.SIGKILL):
        yield f"made again: {made}"
    yield from world.repeated(ended[0], kept=True)
