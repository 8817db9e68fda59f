"""Progress where standard output is a file."""

import io
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from commands import arrays
from rich.console import Console

from unlearnable_bench.screen import console, terminal


def lines(first: float, every: float, work: Iterable[float], start: int = 0) -> list[str]:
    """Return what is printed of a loop whose steps take the given seconds."""
    file = io.StringIO()
    seconds = list(work)
    with terminal.Log(Console(file=file, width=10), first, every) as log:
        steps = range(start, start + len(seconds))
        for step in log.track("a\x1b[31m [b]loop[/b]", start + len(seconds), steps):
            time.sleep(seconds[step - start])
    return file.getvalue().splitlines()


def test_a_line_names_stage_step_rate_and_time_left() -> None:
    (line,) = lines(0.25, 60, [0.1, 0.1, 1.0, 0])
    found = re.fullmatch(
        r"after 0 s: a \[b\]loop\[/b\], (\d) of 4 steps, ([\d.]+) steps/s, 0 s left", line
    )
    assert found
    assert int(found[1]) in (1, 2)
    assert 2 < float(found[2]) <= 10


def test_a_resumed_loop_counts_its_own_steps_only() -> None:
    (line,) = lines(0.25, 60, [0.1, 0.1, 1.0], start=100)
    found = re.search(r"(\d+) of 103 steps, ([\d.]+) steps/s", line)
    assert found
    assert int(found[1]) in (101, 102)
    assert float(found[2]) <= 10


def test_no_more_lines_than_asked_for() -> None:
    assert lines(60, 60, [0.1]) == []
    assert 1 <= len(lines(0.05, 0.2, [0.7])) <= 4


def test_a_first_step_under_way_has_no_rate() -> None:
    (line,) = lines(0.1, 60, [1.0])
    assert line == "after 0 s: a [b]loop[/b], 0 of 1 steps"


def test_outside_loops_it_still_says_that_it_works() -> None:
    file = io.StringIO()
    with terminal.Log(Console(file=file), 0.0, 60):
        time.sleep(0.5)
    assert file.getvalue() == "after 0 s: preparing, testing or waiting\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (90, "90 s"), (91, "2 min"), (5400, "90 min"), (9e3, "2 h")]
)
def test_a_duration_has_few_digits(seconds: float, text: str) -> None:
    assert terminal.duration(seconds) == text


def test_the_command_prints_lines_into_a_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[Console] = []

    class Spy(terminal.Log):
        def __enter__(self) -> Self:
            super().__enter__()
            entered.append(self._out)
            return self

    monkeypatch.setattr(console, "Log", Spy)
    np.savez(tmp_path / "tiny.npz", **arrays())
    settings = {"training.epochs": "1", "small-cnn.width": "4"}
    plan = console.api.make_plan(
        methods=["clean"], dataset=f"npz:{tmp_path / 'tiny.npz'}", settings=settings
    )
    for is_terminal in (False, True):
        out = Console(file=io.StringIO(), force_terminal=is_terminal)
        folder = tmp_path / str(is_terminal)
        cpu, pace = console.torch.device("cpu"), console.Pace(plan, 1)
        console._run_with_progress(out, plan, folder, cpu, 1, None, None, pace)
        assert entered == ([] if is_terminal else [out])
        entered.clear()
