"""Two processes, one of them with three threads, on one folder; and one of them is killed."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from faults.injection import killing, operations
from faults.world import Result, Tally, World, elsewhere
from unlearnable_bench import api
from unlearnable_bench.commands.arguments import parse_settings
from unlearnable_bench.running.worker import Worker


@pytest.mark.parametrize("locks", ["flock", "soft"])
def test_processes_and_threads_share_a_folder(
    locks: str, tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived(f"shared folder, {locks}", elsewhere(share, place, locks))


def share(place: Path, locks: str) -> Tally:
    world, tally = World(place, "run"), Tally()
    if locks == "soft":
        os.environ["UBENCH_LOCKS"] = "soft"
    total, draw = operations(world, "changes"), random.Random(1)
    faults = [None, None, *(draw.randrange(total // 10, total) for _ in range(6))]
    for index, number in enumerate(faults):
        world.clear(kept=True)
        Path("made").write_text("")
        # Either of the two is killed.
        victim = None if number is None else index % 2
        alone = world.begin(partial(_watch, place, number if victim == 0 else None))
        threads = world.begin(
            partial(_watch, place, number if victim == 1 else None), partial(_threads, world)
        )
        wrong = [*_wrong(world, world.wait(alone, threads), victim)]
        what = "undisturbed" if number is None else f"SIGKILL of {victim} at operation {number}"
        tally.add(f"{what}, {locks}", wrong)
    return tally


def _watch(place: Path, number: int | None) -> None:
    """Note in the file `made` which noise is made, and end before operation `number`."""
    generate = Worker._generate

    def noted(worker: Worker, plan: Any) -> Any:
        found = generate(worker, plan)
        with Path("made").open("a") as file:
            file.write(f"{plan.key}\n")
        return found

    Worker._generate = noted  # type: ignore[method-assign]
    if number is not None:
        killing(place, number, SIGKILL)()


def _threads(world: World) -> int:
    """Run the command in three threads of one process; return 0 if all of them did."""
    words = [word for flag, word in pairwise(world.command) if flag == "--set"]
    plan = api.make_plan(
        methods=["tap", "sem"], clean=False, dataset="imagenet-subset:pictures", preset="smoke",
        settings=parse_settings(words),
    )  # fmt: skip
    sound: list[bool] = []

    def work() -> None:
        sound.append(not api.run(plan, "out", device="cpu").failures)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0 if sound == [True] * 3 else 1


def _wrong(world: World, ended: list[Result], victim: int | None) -> Iterator[str]:
    killed = [place == victim and one.code == -SIGKILL for place, one in enumerate(ended)]
    wrong = [one for one, by_us in zip(ended, killed, strict=True) if one.code and not by_us]
    if wrong:
        yield f"ended with {[one.code for one in ended]}: {[_end(one.text) for one in wrong]}"
    made = Path("made").read_text().split()
    # A killed process may have made a noise that it could not store.
    if len(made) - len(set(made)) > (victim is not None):
        yield f"noise was made {len(made)} times for {len(set(made))} poisons"
    yield from world.repeated(ended[0], kept=True)


def _end(text: str) -> str:
    """Return what a process printed last; after a crash, its reason and the first stacks."""
    before, crash, stacks = text.partition("Fatal Python error")
    # A library says why it aborts just before; a long list of modules comes last.
    return before[-3000:] + crash + stacks.partition("Extension modules:")[0][:6000]
