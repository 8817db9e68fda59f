"""Which cells share a table, a row and a column, and their names and order."""

import json

import pandas as pd
import pytest
from report_cells import cell, frame, seeds, setting
from table_views import headings, means

from unlearnable_bench.reports.defenses import defense_tables
from unlearnable_bench.reports.main import main_tables
from unlearnable_bench.reports.protection import protection_tables
from unlearnable_bench.reports.transfer import transfer_tables
from unlearnable_bench.results.aggregate import aggregate
from unlearnable_bench.results.rendering import default_tables


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


def test_rows_are_in_the_order_of_the_frame() -> None:
    cells = [cell(name, 10.0) for name in ("tap", "sem", "clean", "em")]
    (table,) = main_tables(frame(*cells))
    assert [row.label for row in table.rows] == ["clean", "tap", "sem", "em"]
    (table,) = main_tables(pd.DataFrame(frame(*cells).iloc[::-1]))
    assert [row.label for row in table.rows] == ["clean", "em", "sem", "tap"]


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
