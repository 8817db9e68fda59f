"""Reports `time` and `cost`: how long noises took to make, and all results on the device."""

import math
from typing import Any

import pytest
from report_cells import cell, frame
from table_views import headings, means, texts

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports.cost import Cost, cost_tables
from unlearnable_bench.reports.generation_time import time_tables
from unlearnable_bench.results.table import Entry


def timed(attack: str, seconds: float, **more: Any) -> dict[str, Any]:
    card = {"device": "H200", "generation_device": "H200", "generation_resumed": False}
    more.setdefault("poison", f"{attack}{more.get('seed', 0)}")
    environment = {"generation_environment": {"driver": "1", "packages": {"torch": "2"}}}
    times = {"generation_seconds": seconds, "generation_warmup_seconds": 2.5}
    return cell(attack, 10.0, **(card | environment | times | more))


def test_the_speed_up_is_the_time_of_rem_by_the_time_of_the_row() -> None:
    (table,) = time_tables(
        frame(
            timed("clean", 0.0),
            timed("rem", 200.0),
            timed("sem", 40.0),
            timed("sem", 40.0, rho_a="4/255"),
            timed("sem", 60.0, seed=1),
            timed("file[path=x]", 0.1),
        )
    )
    assert headings(table) == ["Generation (s)", "Warm-up (s)", "Speed-up vs REM"]
    # Two cells share the first poison of SEM: it counts once. A file is read, not generated.
    assert means(table) == {"REM": [200, 2.5, 1], "SEM": [50, 2.5, 4]}
    assert table.rows[1].entries[0] == Entry(
        50, pytest.approx(14.142, abs=1e-3), 2, keys=("k2", "k3", "k4")
    )
    assert table.title == "Shapes, smoke preset, H200"
    assert not table.marks


def test_the_speed_up_is_against_the_attack_that_was_asked_for_or_the_slowest() -> None:
    cells = frame(timed("sem", 40.0), timed("tap", 80.0))
    assert means(next(time_tables(cells)))["SEM"] == [40, 2.5, 2]
    assert means(next(time_tables(cells, "sem")))["TAP"] == [80, 2.5, 0.5]
    assert texts(next(time_tables(cells, "sem")))["TAP"] == ["80.0", "2.5", "0.50"]
    with pytest.raises(UserError, match=r"unknown attack with a generation time 'em'.*sem, tap"):
        list(time_tables(cells, "em"))


@pytest.mark.parametrize(
    ("other", "marks"),
    [
        ({"generation_device": "A100"}, [(), ("mixed",)]),
        (
            {"generation_environment": {"driver": "2", "packages": {"torch": "2"}}},
            [(), ("mixed",)],
        ),
        (
            {"generation_environment": {"driver": "1", "packages": {"torch": "3"}}},
            [(), ("mixed",)],
        ),
        ({"generation_resumed": True}, [("resumed",), ("resumed",)]),
        ({}, [(), ()]),
    ],
)
def test_times_that_cannot_be_compared_plainly_are_marked(
    other: dict[str, Any], marks: list[tuple[str, ...]]
) -> None:
    (table,) = time_tables(frame(timed("rem", 200.0), timed("sem", 40.0, **other)))
    sem = table.rows[1].entries
    assert [entry.marks for entry in (sem[0], sem[2]) if entry] == marks
    assert ("Hardware" in headings(table)) == ("generation_device" in other)


def test_every_generation_of_a_mean_time_is_compared() -> None:
    other = {"generation_environment": {"driver": "2"}}
    again = [timed("sem", 40.0), timed("sem", 50.0, rho_a="4/255", **other)]
    (table,) = time_tables(frame(*again))
    assert table.rows[0].entries[0].marks == ("mixed",)  # type: ignore[union-attr]
    (table,) = time_tables(frame(timed("sem", 40.0), timed("sem", 50.0, rho_a="4/255")))
    assert not table.marks


@pytest.mark.parametrize(("driver", "marks"), [(None, ["mixed"]), ("1", [])])
def test_threads_count_where_there_is_no_gpu(driver: str | None, marks: list[str]) -> None:
    machines = ({"driver": driver, "threads": threads} for threads in (2, 8))
    cells = (timed("sem", 1.0, seed=k, generation_environment=m) for k, m in enumerate(machines))
    (table,) = time_tables(frame(*cells))
    assert table.marks == marks


def test_cost_counts_each_noise_once_and_shared_time_by_its_share() -> None:
    spent = {"training_seconds": 120.0, "evaluation_seconds": 12.0, "packed": 2, "status": "done"}
    made = {"generation_seconds": 600.0, "generation_warmup_seconds": 60.0}
    more = {"preparation_seconds": 60.0, "warmup_seconds": 30.0, "packed": 1, "defense": "jpeg"}
    (table,) = cost_tables(
        frame(
            cell("clean", 90, **spent | {"generation_seconds": 0.0}),
            *(cell("sem", 10, seed=k, **spent, **made) for k in range(2)),
            *(cell("sem", 20, seed=k, **spent | more, **made) for k in range(2)),
            cell("sem", math.nan, status="missing", seed=2),
            cell("rem", 20, training_seconds=60.0, generation_seconds=math.nan, status="done"),
        )
    )
    found = {
        row.label: [entry and round(entry.mean, 3) for entry in row.entries] for row in table.rows
    }
    assert found == {
        "clean": [0, 1, 0.1, 1.1],
        # Two noises of 11 minutes; two cells of 1 minute, and two of 3.5.
        "sem": [22, 9, 0.6, 31.6],
        "rem": [0, 1, 0, 1],
    }
    assert table.notes[-1] == "All together 33.7 minutes (0.6 hours)."
    with pytest.raises(UserError, match="nothing to count"):
        Cost().render(frame(cell("sem", math.nan, status="failed")))
