"""Tables as data: what is a row, a column, an entry and a mark, of cells that were made by hand."""

import json
import math
import statistics
from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cells import cell, frame, near, seeds, setting

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports.ablation import ablation_tables
from unlearnable_bench.reports.cost import Cost, cost_tables
from unlearnable_bench.reports.defenses import defense_tables
from unlearnable_bench.reports.failures import failure_tables
from unlearnable_bench.reports.generation_time import time_tables
from unlearnable_bench.reports.main import main_tables
from unlearnable_bench.reports.paired import p_text, paired_tables
from unlearnable_bench.reports.protection import protection_tables
from unlearnable_bench.reports.quality import quality_tables
from unlearnable_bench.reports.transfer import transfer_tables
from unlearnable_bench.reports.worst_case import worst_case_tables
from unlearnable_bench.results.aggregate import aggregate
from unlearnable_bench.results.rendering import default_tables
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import Entry, Table, entry_text

COLUMNS = [
    *("dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset"),
    *("test_accuracy_mean", "test_accuracy_std", "seeds"),
    *("generation_seconds", "preparation_seconds", "training_seconds", "device"),
]


def headings(table: Table) -> list[str]:
    return [column.heading for column in table.columns]


def means(table: Table) -> dict[str, list[float | None]]:
    return {row.name(): [entry and entry.mean for entry in row.entries] for row in table.rows}


def texts(table: Table) -> dict[str, list[str | None]]:
    return {
        row.name(): [entry and entry_text(entry, " ± ", digits=c.digits) for entry, c in pairs]
        for row in table.rows
        if (pairs := list(zip(row.entries, table.columns, strict=True)))
    }


def bold(table: Table) -> dict[str, list[bool]]:
    return {row.name(): [bool(e and e.best) for e in row.entries] for row in table.rows}


def test_the_spread_is_the_sample_standard_deviation_over_seeds() -> None:
    values = [10.0, 12.5, 17.0]
    results = aggregate(frame(*seeds("sem", values), cell("rem", 3.0)))
    assert list(results.columns.drop("setting")) == COLUMNS
    sem, rem = results.to_dict("records")
    assert sem["test_accuracy_mean"] == pytest.approx(statistics.mean(values))
    assert sem["test_accuracy_std"] == pytest.approx(statistics.stdev(values))
    assert sem["seeds"] == 3
    assert (rem["test_accuracy_mean"], rem["seeds"]) == (3.0, 1)
    assert math.isnan(rem["test_accuracy_std"])  # one seed says nothing of the spread


def test_seconds_are_means_on_the_devices_named() -> None:
    results = frame(
        cell("sem", 10.0, generation_seconds=300.0, training_seconds=20.0, device="NVIDIA H200"),
        cell("sem", 10.0, generation_seconds=310.0, training_seconds=20.5, seed=1),
    )
    (row,) = aggregate(results).to_dict("records")
    assert [row[kind] for kind in COLUMNS[-4:]] == [305.0, 0.0, 20.25, "CPU + NVIDIA H200"]


def test_an_entry_has_a_spread_only_where_there_are_several_seeds() -> None:
    (table,) = default_tables(frame(*seeds("sem", [10.0, 12.0]), cell("rem", 3.04)))
    assert texts(table) == {"SEM": ["11.0 ± 1.4"], "REM": ["3.0 (n=1)"]}
    assert "Mean over 1 to 2 seeds, with the sample standard deviation." in table.notes


def test_radii_are_columns_in_ascending_order_and_missing_cells_stay_empty() -> None:
    (table,) = default_tables(
        frame(
            cell("sem", 1, rho_a="10/255"),
            cell("sem", 2, rho_a="2/255"),
            cell("sem", 3, rho_a="0"),
            cell("rem", 4, rho_a="2/255"),
        )
    )
    assert headings(table) == ["rho_a 0", "rho_a 2/255", "rho_a 10/255"]
    assert means(table) == {"SEM": [3, 2, 1], "REM": [None, 4, None]}


def test_controls_come_first_and_are_never_bold() -> None:
    (table,) = default_tables(
        frame(
            *near("sem", 30),
            *near("random", 10),
            *near("rem[steps=3]", 20),
            *near("clean", 95, rho_u="0"),
            *near("em", 25),
        )
    )
    assert bold(table) == {
        "Random": [False],
        "Clean": [False],
        "SEM": [False],
        "REM (steps=3)": [True],
        "EM": [False],
    }
    (controls,) = default_tables(frame(*near("clean", 90), *near("random", 80)))
    assert not any(entry.best for entry in controls.entries)


def test_the_bold_entry_is_chosen_in_each_column() -> None:
    (table,) = default_tables(
        frame(
            *near("sem", 10, rho_a="0"),
            *near("rem", 13, rho_a="0"),
            *near("sem", 50, rho_a="1/255"),
            *near("rem", 47, rho_a="1/255"),
        )
    )
    assert bold(table) == {"SEM": [True, False], "REM": [False, True]}


@pytest.mark.parametrize(
    ("sem", "rem"),
    [
        ([10.0], [30.0]),
        ([10.0, 10.1], [30.0, 30.1]),
        ([10.0, 20.0, 30.0], [21.0, 22.0, 23.0]),
        ([10.0, 11.0, 12.0], [12.0, 11.0, 10.0]),
    ],
    ids=["one seed", "two seeds", "intervals overlap", "a tie"],
)
def test_nothing_is_bold_that_the_seeds_do_not_show(sem: list[float], rem: list[float]) -> None:
    (table,) = default_tables(frame(*seeds("sem", sem), *seeds("rem", rem)))
    assert not any(entry.best for entry in table.entries)
    assert any("othing is bold" in note for note in table.notes)


def test_nothing_is_bold_that_is_not_below_clean_accuracy() -> None:
    (table,) = default_tables(frame(*near("clean", 20), *near("sem", 30), *near("rem", 40)))
    assert not any(entry.best for entry in table.entries)


def test_training_that_collapsed_is_no_protection() -> None:
    usual = {"classes": 10, "train_accuracy": 99.0}
    collapsed = near("tap", 10, **(usual | {"train_accuracy": 10.0}))
    rest = [*near("sem", 20, **usual), *near("rem", 50, **usual), cell("clean", 90, **usual)]
    (table,) = main_tables(frame(*collapsed, *rest))
    assert bold(table) == {"Clean": [False], "TAP": [False], "SEM": [True], "REM": [False]}
    assert any(note.startswith("~ ") and "never bold" in note for note in table.notes)


def test_pairs_and_ranks_name_what_collapsed() -> None:
    usual = {"classes": 10, "train_accuracy": 99.0}
    rest = [*near("sem", 20, **usual), *near("rem", 50, **usual)]
    collapsed = near("tap", 10, **(usual | {"train_accuracy": 10.0}))
    for table in paired_tables(frame(*collapsed, *rest)):
        assert any("collapsed for some cells of TAP: at chance" in note for note in table.notes)
    assert not any("collapsed" in str(table.notes) for table in paired_tables(frame(*rest)))


def test_several_radii_of_the_noise_are_several_rows() -> None:
    (table,) = default_tables(
        frame(cell("sem", 10), cell("sem", 20, rho_u="16/255"), cell("rem", 30), cell("clean", 90))
    )
    assert [row.name() for row in table.rows] == ["Clean", "SEM (8/255)", "SEM (16/255)", "REM"]


def test_radii_of_the_noise_are_no_other_kinds_of_the_method() -> None:
    """As `ubench run --rho-u 4/255,8/255` records them: the settings differ in the radius."""
    cells = [
        cell("sem", 10 * k, rho_u=f"{k}/255", setting=setting(rho_u=f"{k}/255", steps=steps))
        for k, steps in ((4, 5), (8, 5), (8, 6))
    ]
    (table,) = default_tables(frame(*cells))
    names = [row.name() for row in table.rows]
    assert names[:2] == ["SEM (4/255)", "SEM (8/255)"]
    assert names[2].startswith("SEM #")  # of other steps at the same radius


def test_a_radius_of_0_is_named_unless_the_images_are_clean() -> None:
    (table,) = default_tables(frame(cell("clean", 90, rho_u="0"), cell("sem", 80, rho_u="0")))
    assert [row.name() for row in table.rows] == ["Clean", "SEM (0)"]


def test_a_radius_is_named_unless_it_is_the_usual_one() -> None:
    (table,) = default_tables(
        frame(
            cell("clean", 90, rho_u="0"),
            cell("sem", 10),
            cell("em", 10, rho_u="16/510"),
            cell("rem", 20, rho_u="16/255"),
            cell("sc", 30, rho_u="l2 1.3041013273932526"),
        )
    )
    names = [row.name() for row in table.rows]
    assert names == ["Clean", "SEM", "EM", "REM (16/255)", "SC (L2 1.3)"]


def test_fewer_seeds_than_others_are_written_out() -> None:
    (table,) = default_tables(frame(*seeds("sem", [10.0, 12.0, 14.0]), *seeds("rem", [3.0, 5.0])))
    assert texts(table) == {"SEM": ["12.0 ± 2.0"], "REM": ["4.0 ± 1.4 (n=2)"]}


def test_equal_radii_written_differently_are_one_row_and_one_column() -> None:
    (table,) = default_tables(
        frame(
            cell("sem", 10, rho_a="4/255"),
            cell("sem", 12, rho_a="8/510", seed=1),
            cell("sem", 14, rho_a="4/255", rho_u="16/510", seed=2),
        )
    )
    assert headings(table) == ["rho_a 4/255"]
    (entry,) = table.entries
    assert (entry.mean, entry.seeds) == (12, 3)


def test_cells_that_differ_in_more_than_the_seed_are_told_apart_and_not_averaged() -> None:
    def made(**attack: str) -> str:
        return json.dumps({"poison": {"data": "d", "attack": attack}, "rho_a": "0"})

    alike = [cell("sem", 10, seed=seed, setting=made(version="1")) for seed in (0, 1)]
    assert aggregate(frame(*alike))["seeds"].tolist() == [2]
    newer = cell("sem", 20, setting=made(version="2", source="f00"))
    assert aggregate(frame(*alike, newer | {"attack": "mine"}))["seeds"].tolist() == [2, 1]
    (table,) = default_tables(frame(*alike, newer))
    old, new = table.rows
    assert (old.name(), means(table)["SEM"]) == ("SEM", [10])
    assert new.name().startswith("SEM #")
    assert means(table)[new.name()] == [20]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dataset", "npz:mine", "npz:mine, Small CNN, smoke preset"),
        ("learner", "resnet18", "Shapes, ResNet-18, smoke preset"),
        ("preset", "smoke[training.lr=1]", "Shapes, Small CNN, smoke (training.lr=1) preset"),
    ],
)
def test_every_setting_has_its_own_table_and_title(name: str, value: object, words: str) -> None:
    usual, other = default_tables(frame(cell("sem", 10), cell("sem", 20, **{name: value})))
    assert usual.title == "Shapes, Small CNN, smoke preset"
    assert other.title == words
    assert means(other) == {"SEM": [20]}


def test_defenses_at_one_radius_are_columns_of_one_table() -> None:
    (by_defense,) = defense_tables(
        frame(
            cell("clean", 90),
            cell("clean", 80, defense="jpeg"),
            cell("sem", 10),
            cell("sem", 70, defense="jpeg"),
            cell("sem", 15, defense="cutout"),
            cell("rem", 60, defense="jpeg"),
            cell("rem", 55, defense="gaussian-blur", rho_a="4/255"),
            cell("em", 50),
        )
    )
    assert by_defense.title == "Shapes, Small CNN, smoke preset, rho_a 0"
    assert headings(by_defense) == ["None", "JPEG", "Cutout"]
    # EM met no defense: it would be a row of blanks.
    assert means(by_defense) == {
        "Clean": [90, 80, None],
        "SEM": [10, 70, 15],
        "REM": [None, 60, None],
    }
    # At 4/255 there is one defense alone: the main table of that defense has all of it.


def test_each_defense_has_its_own_bold_entry() -> None:
    cells = [
        *near("sem", 10),
        *near("rem", 20),
        *near("sem", 70, defense="jpeg"),
        *near("rem", 60, defense="jpeg"),
    ]
    (table,) = defense_tables(frame(*cells))
    assert bold(table) == {"SEM": [True, False], "REM": [False, True]}


def test_a_defense_at_several_radii_has_a_table_of_its_own() -> None:
    cells = [
        cell("sem", 10 * k, defense=d, rho_a=f"{k}/255") for d in ("none", "jpeg") for k in (1, 2)
    ]
    plain, jpeg = main_tables(frame(*cells))
    assert headings(plain) == headings(jpeg) == ["rho_a 1/255", "rho_a 2/255"]
    assert plain.title == "Shapes, Small CNN, smoke preset"
    assert jpeg.title == "Shapes, Small CNN, smoke preset, defense JPEG"


def test_shares_of_protected_images_are_columns_in_ascending_order() -> None:
    robust, table = protection_tables(
        frame(
            cell("sem", 90, protect=0.8, rho_a="4/255"),
            cell("sem", 10),
            cell("sem", 30, protect=0.8),
            cell("remainder", 60, protect=0.8),
            cell("remainder", 85, protect=0.2),
            cell("clean", 93),
            cell("em", 12),
        )
    )
    assert headings(table) == ["20 % protected", "80 % protected", "100 % protected"]
    assert table.title == "Shapes, Small CNN, smoke preset, rho_a 0"
    assert means(table) == {
        "Clean subset": [85, 60, None],
        "Clean": [None, None, 93],
        "SEM": [None, 30, 10],
    }
    assert robust.title == "Shapes, Small CNN, smoke preset, rho_a 4/255"


def test_protected_classes_have_a_table_of_their_own_test_images() -> None:
    cells = seeds("sem", [80.0, 82.0], protected_accuracy=4.0), seeds("clean", [90.0, 90.0])
    cells[1][0]["protected_accuracy"] = cells[1][1]["protected_accuracy"] = 88.0
    given_cells = frame(*cells[0], *cells[1])
    overall, protected = default_tables(given_cells)
    assert means(overall)["SEM"] == [81]
    assert means(protected)["SEM"] == [4]
    assert protected.title.endswith(", test images of the protected classes")
    rows = {row["attack"]: row for row in aggregate(given_cells).to_dict("records")}
    assert rows["clean"]["protected_accuracy_mean"] == 88
    assert rows["clean"]["protected_accuracy_std"] == 0


def test_every_entry_leads_back_to_its_records() -> None:
    given_cells = frame(*near("sem", 10), *near("em", 20), cell("em", 80, defense="jpeg"))
    reports = (main_tables, defense_tables, paired_tables, time_tables, worst_case_tables)
    for report in reports:
        for table in report(given_cells):
            assert all(entry.keys for entry in table.entries), table.name
    (main,) = main_tables(given_cells)
    assert main.rows[0].entries[0] == pytest.approx(main.entries[0])
    assert main.entries[0].keys == ("k0", "k1", "k2")


def test_learners_are_columns_of_the_transfer_table() -> None:
    table, robust = transfer_tables(
        frame(
            cell("clean", 95),
            cell("sem", 10),
            cell("sem", 12, learner="resnet18"),
            cell("rem", 30),
            cell("sem", 40, rho_a="4/255"),
            cell("sem", 42, rho_a="4/255", learner="vgg16-bn"),
        )
    )
    assert headings(table) == ["Small CNN", "ResNet-18"]
    # REM was run with one learner: there is nothing to transfer.
    assert means(table) == {"Clean": [95, None], "SEM": [10, 12]}
    assert table.title == "Shapes, smoke preset, rho_a 0"
    assert headings(robust) == ["Small CNN", "VGG-16-BN"]
    assert not list(transfer_tables(frame(cell("sem", 10))))


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


def test_variants_of_a_method_are_rows_that_name_every_option_they_differ_in() -> None:
    cells = frame(
        cell("clean", 95),
        cell("sem", 12, setting=setting(noise_steps=10, steps=5000)),
        cell("sem[noise_steps=5]", 14, setting=setting(noise_steps=5, steps=5000)),
        cell("sem[noise_steps=20]", 11, setting=setting(noise_steps=20, steps=5000)),
        cell("rem", 30, setting=setting(steps=5000)),
    )
    (table,) = ablation_tables(cells)
    assert table.title == "Shapes, Small CNN, smoke preset, variants of SEM"
    assert means(table) == {
        "Clean": [95],
        "SEM (noise_steps=5)": [14],
        "SEM (noise_steps=10)": [12],
        "SEM (noise_steps=20)": [11],
    }


def test_an_ablation_of_one_option_holds_the_others_fixed() -> None:
    cells = frame(
        *(
            cell(f"sem[a={a},b={b}]", 10 * a + b, setting=setting(a=a, b=b))
            for a in (1, 2)
            for b in (3, 4)
        ),
        cell("sem[a=5,b=6]", 56, setting=setting(a=5, b=6)),
    )
    (every,) = ablation_tables(cells)
    assert len(every.rows) == 5
    first, second = ablation_tables(cells, "sem.a")
    assert means(first) == {"SEM (a=1)": [13], "SEM (a=2)": [23]}
    assert first.title.endswith("variants of SEM, b=3")
    assert means(second) == {"SEM (a=1)": [14], "SEM (a=2)": [24]}
    with pytest.raises(
        UserError, match=r"unknown option with several values 'sem.c'.*sem.a, sem.b"
    ):
        list(ablation_tables(cells, "sem.c"))
    with pytest.raises(UserError, match=r"option='steps': write ATTACK.OPTION"):
        list(ablation_tables(cells, "steps"))
    with pytest.raises(UserError, match="no method has several variants"):
        list(ablation_tables(frame(cell("sem", 1))))


def test_an_unfinished_variant_is_a_row_too() -> None:
    cells = frame(
        cell("sem", 12, setting=setting(steps=10), status="done"),
        cell("sem[steps=5]", math.nan, setting="", status="failed", rho_u=None),
    )
    (table,) = ablation_tables(cells)
    assert [row.name() for row in table.rows] == ["SEM (steps=5)", "SEM (steps=10)"]
    assert texts(table)["SEM (steps=5)"] == ["!"]


def test_the_worst_case_is_the_highest_accuracy_and_names_its_defense() -> None:
    cells = frame(
        cell("clean", 95),
        cell("sem", 10),
        cell("sem", 70, defense="jpeg"),
        cell("sem", 40, defense="cutout"),
        cell("sem", 75, defense="jpeg", rho_a="4/255"),
        cell("sem", 30, rho_a="4/255"),
        cell("em", 90),
    )
    (table,) = worst_case_tables(cells)
    assert headings(table) == ["rho_a 0", "reached by", "rho_a 4/255", "reached by"]
    assert texts(table) == {
        "Clean": ["95.0", "None (1)", None, None],
        "SEM": ["70.0", "JPEG (3)", "75.0", "JPEG (2)"],
    }
    (over_all,) = worst_case_tables(cells, over_rho_a=True)
    assert texts(over_all)["SEM"] == ["75.0", "JPEG, rho_a 4/255 (5)"]
    assert not list(worst_case_tables(frame(cell("sem", 10))))


def test_a_worst_case_with_an_unfinished_defense_is_marked() -> None:
    cells = frame(
        cell("sem", 10, status="done"),
        cell("sem", 70, status="done", defense="jpeg"),
        cell("sem", math.nan, status="missing", defense="cutout", setting=""),
    )
    (table,) = worst_case_tables(cells)
    assert texts(table) == {"SEM": ["70.0", "JPEG (2 of 3)"]}
    assert any(note.startswith("2 of 3: ") for note in table.notes)


def test_a_worst_case_has_the_marks_of_its_own_defense() -> None:
    jpeg = seeds("sem", [70, 72, 74], defense="jpeg")
    (table,) = worst_case_tables(frame(*jpeg, cell("sem", 40, defense="cutout")))
    assert texts(table) == {"SEM": ["72.0 ± 2.0", "JPEG (2)"]}
    (table,) = worst_case_tables(frame(*jpeg, cell("sem", 90, defense="cutout")))
    assert texts(table) == {"SEM": ["90.0 (n=1)", "Cutout (2)"]}


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


def test_image_quality_is_averaged_over_poisons_and_leaves_out_what_was_not_measured() -> None:
    measured = {"linf": 8.0, "l2": 1.25, "psnr": 32.0, "ssim": 0.95}
    nothing = dict.fromkeys(measured, math.nan)
    (table,) = quality_tables(
        frame(
            cell("clean", 95, **(nothing | {"linf": 0.0})),
            cell("sem", 10, **measured),
            cell("sem", 10, rho_a="4/255", **measured),
            cell("sem", 10, seed=1, **(measured | {"psnr": 34.0})),
            cell("em", 20, **nothing),
        )
    )
    assert headings(table) == ["L∞ (1/255)", "L2", "PSNR (dB)", "SSIM"]
    assert means(table) == {"SEM": [8, 1.25, 33, pytest.approx(0.95)]}
    assert texts(table)["SEM"][-2:] == ["33.0 ± 1.4", "0.950 ± 0.000"]
    assert table.notes[0].startswith("L∞ and L2 are the largest of all images, PSNR and SSIM means")
    assert not list(quality_tables(frame(cell("sem", 10))))


def test_pairs_are_compared_on_common_seeds_with_holms_adjustment() -> None:
    # Differences -10, -11, -12 and -1, -3, -2: t = -19.05 and -3.46, two-sided p with 2 degrees
    # of freedom 0.0027 and 0.0742; the third pair's differences are 9, 8, 10, p = 0.0041.
    ranks, pairs = paired_tables(
        frame(
            *seeds("sem", [10.0, 11.0, 12.0, 99.0]),
            *seeds("rem", [20.0, 22.0, 24.0]),
            *seeds("em", [11.0, 14.0, 14.0]),
            *seeds("clean", [95.0, 95.0, 95.0]),
            *seeds("tap", [1.0, 2.0]),
        )
    )
    found = texts(pairs)
    assert found["SEM vs REM"][:2] == ["3", "-11.00"]
    assert found["SEM vs REM"][2:] == ["[-13.48, -8.52]", "0.003", "0.008"]
    assert found["SEM vs EM"] == ["3", "-2.00", "[-4.48, 0.48]", "0.074", "0.074"]
    assert found["REM vs EM"] == ["3", "9.00", "[6.52, 11.48]", "0.004", "0.008"]
    assert set(found) == {"SEM vs REM", "SEM vs EM", "REM vs EM"}
    assert [row.name() for row in ranks.rows] == ["SEM", "REM", "EM"]
    assert texts(ranks)["REM"][0].startswith("2 [")  # type: ignore[union-attr]


def test_pairs_against_one_method_have_it_second_and_budgets_are_named() -> None:
    cells = frame(
        *near("sem", 10), *near("rem", 20), *near("em", 30), *near("sc", 40, rho_u="l2 1.3")
    )
    *_, pairs = paired_tables(cells, "rem")
    names = [row.name() for row in pairs.rows]
    assert names == ["SEM vs REM", "EM vs REM", "SC vs REM (L2 1.3 vs 8/255)"]
    # All differences of a pair are equal here: no t, no p.
    assert texts(pairs)["SEM vs REM"] == ["3", "-10.00", "[-10.00, -10.00]", "--", "--"]
    with pytest.raises(UserError, match="unknown attack 'tap'"):
        list(paired_tables(cells, "tap"))
    with pytest.raises(UserError, match="have 3 seeds in common"):
        list(paired_tables(frame(*seeds("sem", [1, 2]), *seeds("rem", [3, 4]))))


def test_pairs_under_a_defense_are_compared_on_demand_or_if_there_are_no_others() -> None:
    plain = [*near("sem", 10), *near("rem", 20)]
    defended = [*near("sem", 60, defense="jpeg"), *near("rem", 70, defense="jpeg")]
    titles = [table.title for table in paired_tables(frame(*plain, *defended))]
    assert titles == ["Shapes, Small CNN, smoke preset, rho_a 0"] * 2
    every = [table.title for table in paired_tables(frame(*plain, *defended), defended=True)]
    assert every.count("Shapes, Small CNN, smoke preset, rho_a 0, defense JPEG") == 1
    (ranks, *_) = paired_tables(frame(*plain, *defended), defended=True)
    assert headings(ranks) == ["None", "JPEG"]
    assert any("JPEG" in table.title for table in paired_tables(frame(*defended)))


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(1.0, "1.000"), (0.0486, "0.049"), (0.001, "0.001"), (1e-7, "<0.001"), (0.0, "<0.001")],
)
def test_a_p_value_is_text_and_never_zero(p_value: float, text: str) -> None:
    assert p_text(p_value) == text


def test_failures_are_listed_with_their_reasons_and_seeds() -> None:
    lost = {"test_accuracy": math.nan, "status": "failed", "setting": "", "rho_u": None}
    cells = frame(
        cell("sem", 10, status="done", reason=""),
        *({"attack": "tap", "seed": s, "reason": "out of memory"} | lost for s in (1, 0)),
        {"attack": "tap", "seed": 2, "reason": "a NaN in the loss", "rho_a": "4/255"} | lost,
    )
    (table,) = failure_tables(cells)
    assert headings(table) == ["rho_a", "Seeds", "Reason"]
    assert [[e and e.text for e in row.entries] for row in table.rows] == [
        ["0", "0, 1", "out of memory"],
        ["4/255", "2", "a NaN in the loss"],
    ]
    assert table.caption == "3 failed cells"
    (main,) = main_tables(cells)
    assert texts(main)["TAP"] == ["!", "!"]
    assert not list(failure_tables(frame(cell("sem", 10, status="done", reason=""))))


def test_peak_interval_and_digits_are_printed_on_demand() -> None:
    given_cells = frame(*seeds("sem", [10.0, 12.0, 14.0], peak_accuracy=31.04))
    (table,) = main_tables(given_cells)
    (entry,) = table.entries
    assert entry_text(entry, " ± ", TableStyle(digits=2)) == "12.00 ± 2.00"
    assert entry_text(entry, " ± ", TableStyle(peak=True)) == "12.0 ± 2.0 / 31.0"
    # t of 2 degrees of freedom at 97.5 % is 4.303: 4.303 * 2 / sqrt(3) = 4.97.
    assert entry_text(entry, " ± ", TableStyle(spread="interval")) == "12.0 [7.0, 17.0]"
    assert entry_text(entry, " ± ", TableStyle(spread="none")) == "12.0"


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    assert entry_text(Entry(-0.04), " ± ") == "0.0"


REPORTS = (
    *(main_tables, defense_tables, worst_case_tables, quality_tables, paired_tables),
    cost_tables,
)


def ordered(tables: Sequence[Table]) -> list[dict[str, list[str | None]]]:
    return [texts(table) for table in tables]


def _three_groups() -> pd.DataFrame:
    quality = {"linf": 8.0, "l2": 1.25, "psnr": 32.0, "ssim": 0.95}
    return frame(
        *seeds("sem", [10.0, 11.5, 12.0], **quality),
        *seeds("rem", [20.0, 22.0, 21.0], **quality),
        *seeds("sem", [50.0, 55.0, 52.0], defense="jpeg", **quality),
    )


@cache
def _expected() -> dict[Any, list[dict[str, list[str | None]]]]:
    return {report: ordered(list(report(_three_groups()))) for report in REPORTS}


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(9)), st.lists(st.integers(0, 8), max_size=5))
def test_neither_the_order_of_seeds_nor_a_seed_read_twice_changes_a_table(
    order: Sequence[int], twice: Sequence[int]
) -> None:
    cells = _three_groups()
    # Within a group: the order of the groups is that of the rows.
    within = sorted(order, key=lambda k: k // 3)
    mixed = cells.iloc[[*within, *twice]].reset_index(drop=True)
    for report in REPORTS:
        assert ordered(list(report(mixed))) == _expected()[report]


def test_rows_are_in_the_order_of_the_frame() -> None:
    cells = [cell(name, 10.0) for name in ("tap", "sem", "clean", "em")]
    (table,) = main_tables(frame(*cells))
    assert [row.label for row in table.rows] == ["clean", "tap", "sem", "em"]
    (table,) = main_tables(pd.DataFrame(frame(*cells).iloc[::-1]))
    assert [row.label for row in table.rows] == ["clean", "em", "sem", "tap"]
