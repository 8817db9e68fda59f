"""Long runs: a large plan begins soon, and many cells leave nothing behind in the process."""

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import small_data

from unlearnable_bench import api
from unlearnable_bench.contract import Dataset
from unlearnable_bench.images import Data
from unlearnable_bench.planning.cost import work_of
from unlearnable_bench.radius import Radius

SETTINGS = {"training.epochs": 1, "small-cnn.width": 4}


class Small(Dataset):
    """Twelve images."""

    def load(self) -> Data:
        return small_data()


class First:
    """Progress that ends the run at its first loop."""

    def track(self, label: str, total: int, steps: Any) -> Iterator[int]:
        raise KeyboardInterrupt
        yield


def test_a_plan_of_5000_cells_reaches_its_first_cell_within_ten_seconds(tmp_path: Path) -> None:
    # Of the processor, since other programs may use the cores too.
    began = time.process_time()
    plan = api.make_plan(
        dataset=Small,
        preset="smoke",
        methods=["random", "sem"],
        rho_a=[Radius("0"), Radius("4/255")],
        defenses=["none", "jpeg", "cutout", "grayscale", "bit-depth"],
        seeds=range(250),
        clean=False,
        settings=SETTINGS | {"sem.steps": 2},
    )
    assert len(plan.cells) == 5000
    assert len(work_of(plan)) == 5000 + 2 * 250
    with pytest.raises(KeyboardInterrupt):
        api.run(plan, tmp_path / "out", device="cpu", progress=First(), threads=1)
    assert time.process_time() - began < 10


def open_files() -> int:
    folder = Path("/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd")
    return len(os.listdir(folder))  # noqa: PTH208 - a listing, without the descriptors' targets


@pytest.mark.parametrize("pack", [1, 2])
def test_cells_leave_no_files_threads_or_objects_behind(tmp_path: Path, pack: int) -> None:
    seen: list[tuple[int, int, int]] = []

    def count(*_: object) -> None:
        gc.collect()
        seen.append((open_files(), threading.active_count(), len(gc.get_objects())))

    plan = api.make_plan(
        dataset=Small,
        preset="smoke",
        methods=["random"],
        seeds=range(24),
        clean=False,
        settings=SETTINGS,
    )
    api.run(plan, tmp_path / "out", device="cpu", on_cell=count, pack=pack, threads=1)
    files, threads, objects = zip(*seen[8:], strict=True)  # after what the first ones import
    # Another packed cell may have some open; one a cell that stays would be eight more.
    assert max(files[-8:]) < min(files[:8]) + 8
    assert max(threads) == min(threads)
    # A held network, data set or traceback would be hundreds of objects a cell.
    assert objects[-1] - objects[0] < 40 * len(objects)
