"""Tables and tidy forms of results that were made by hand."""

import csv
import io
import json
import math
import statistics
from typing import Any

import pandas as pd
import pytest

from unlearnable_bench import api
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports.latex import escape
from unlearnable_bench.results.comparison import compare, rank_correlation
from unlearnable_bench.results.table import aggregate, tables

COLUMNS = [
    "dataset",
    "attack",
    "learner",
    "defense",
    "rho_a",
    "rho_u",
    "protect",
    "preset",
    "test_accuracy_mean",
    "test_accuracy_std",
    "seeds",
    "generation_seconds",
    "preparation_seconds",
    "training_seconds",
    "device",
]


def frame(*cells: dict[str, Any]) -> pd.DataFrame:
    usual = {
        "dataset": "shapes",
        "attack": "sem",
        "learner": "small-cnn",
        "defense": "none",
        "rho_a": "0",
        "rho_u": "8/255",
        "protect": 1.0,
        "preset": "smoke",
        "seed": 0,
        "setting": "{}",
        "protected_accuracy": None,
        "generation_seconds": 60.0,
        "preparation_seconds": 0.0,
        "training_seconds": 20.0,
        "device": "CPU",
    }
    return pd.DataFrame([usual | cell for cell in cells])


def cell(attack: str, accuracy: float, **more: Any) -> dict[str, Any]:
    return {"attack": attack, "test_accuracy": accuracy, **more}


def seeds(attack: str, accuracies: list[float], **more: Any) -> list[dict[str, Any]]:
    return [cell(attack, accuracy, seed=k, **more) for k, accuracy in enumerate(accuracies)]


def test_the_spread_is_the_sample_standard_deviation_over_seeds() -> None:
    values = [10.0, 12.5, 17.0]
    results = aggregate(frame(*seeds("sem", values), cell("rem", 3.0)))
    assert list(results.columns.drop("setting")) == COLUMNS
    sem, rem = results.to_dict("records")
    assert sem["test_accuracy_mean"] == pytest.approx(statistics.mean(values))
    assert sem["test_accuracy_std"] == pytest.approx(statistics.stdev(values))
    assert sem["seeds"] == 3
    assert (rem["test_accuracy_mean"], rem["test_accuracy_std"], rem["seeds"]) == (3.0, 0.0, 1)


def test_seconds_are_means_on_the_devices_named() -> None:
    results = frame(
        cell("sem", 10.0, generation_seconds=300.0, training_seconds=20.0, device="NVIDIA H200"),
        cell("sem", 10.0, generation_seconds=310.0, training_seconds=20.5, seed=1),
    )
    (row,) = aggregate(results).to_dict("records")
    assert [row[kind] for kind in COLUMNS[-4:]] == [305.0, 0.0, 20.25, "CPU + NVIDIA H200"]


def test_the_spread_stands_in_a_table_only_where_there_are_several_seeds() -> None:
    (table,) = tables(frame(*seeds("sem", [10.0, 12.0]), cell("rem", 3.04)))
    sem, rem = table.rows["sem"][0], table.rows["rem"][0]
    assert sem is not None
    assert rem is not None
    assert sem.text(" ± ") == "11.0 ± 1.4"
    assert rem.text(" ± ") == "3.0 (n=1)"


def test_radii_are_columns_in_ascending_order_and_missing_cells_stay_empty() -> None:
    (table,) = tables(
        frame(
            cell("sem", 1, rho_a="10/255"),
            cell("sem", 2, rho_a="2/255"),
            cell("sem", 3, rho_a="0"),
            cell("rem", 4, rho_a="2/255"),
        )
    )
    assert table.columns == ["0", "2/255", "10/255"]
    assert [entry and entry.mean for entry in table.rows["sem"]] == [3, 2, 1]
    assert [entry and entry.mean for entry in table.rows["rem"]] == [None, 4, None]


def test_controls_stand_first_and_are_never_the_best() -> None:
    (table,) = tables(
        frame(
            cell("sem", 30),
            cell("random", 10),
            cell("rem[steps=3]", 20),
            cell("clean", 5, rho_u="0"),
            cell("em", 20),
        )
    )
    assert list(table.rows) == ["random", "clean", "sem", "rem[steps=3]", "em"]
    best = {name for name, (entry,) in table.rows.items() if entry is not None and entry.best}
    assert best == {"rem[steps=3]", "em"}
    (controls,) = tables(frame(cell("clean", 90), cell("random", 80)))
    assert not any(entry and entry.best for row in controls.rows.values() for entry in row)


def test_the_best_is_chosen_in_each_column() -> None:
    (table,) = tables(
        frame(
            cell("sem", 10, rho_a="0"),
            cell("rem", 11, rho_a="0"),
            cell("sem", 50, rho_a="1/255"),
            cell("rem", 49, rho_a="1/255"),
        )
    )
    assert [entry and entry.best for entry in table.rows["sem"]] == [True, False]
    assert [entry and entry.best for entry in table.rows["rem"]] == [False, True]


def test_several_radii_of_the_noise_are_several_rows() -> None:
    (table,) = tables(
        frame(cell("sem", 10), cell("sem", 20, rho_u="16/255"), cell("rem", 30), cell("clean", 90))
    )
    assert list(table.rows) == ["clean", "sem (8/255)", "sem (16/255)", "rem"]


def test_a_radius_is_told_unless_it_is_the_usual_one() -> None:
    (table,) = tables(
        frame(
            cell("clean", 90, rho_u="0"),
            cell("sem", 10),
            cell("em", 10, rho_u="16/510"),
            cell("rem", 20, rho_u="16/255"),
            cell("sc", 30, rho_u="l2 1.3041013273932526"),
        )
    )
    assert list(table.rows) == ["clean", "sem", "em", "rem (16/255)", "sc (l2 1.3)"]


def test_fewer_seeds_than_others_are_told() -> None:
    (table,) = tables(frame(*seeds("sem", [10.0, 12.0, 14.0]), *seeds("rem", [3.0, 5.0])))
    texts = [entries[0].text(" +- ") for entries in table.rows.values() if entries[0]]
    assert texts == ["12.0 +- 2.0", "4.0 +- 1.4 (n=2)"]


def test_equal_radii_written_differently_are_one_row_and_one_column() -> None:
    (table,) = tables(
        frame(
            cell("sem", 10, rho_a="4/255"),
            cell("sem", 12, rho_a="8/510", seed=1),
            cell("sem", 14, rho_a="4/255", rho_u="16/510", seed=2),
        )
    )
    assert table.columns == ["4/255"]
    ((entry,),) = table.rows.values()
    assert entry is not None
    assert (entry.mean, entry.seeds) == (12, 3)


def test_cells_that_differ_in_more_than_the_seed_are_not_averaged() -> None:
    def setting(**attack: str) -> str:
        return json.dumps({"poison": {"data": "d", "attack": attack}, "rho_a": "0"})

    alike = [cell("sem", 10, seed=seed, setting=setting(version="1")) for seed in (0, 1)]
    assert aggregate(frame(*alike))["seeds"].tolist() == [2]
    newer = cell("sem", 20, setting=setting(version="2", source="f00"))
    apart = newer | {"attack": "mine"}
    assert aggregate(frame(*alike, apart))["seeds"].tolist() == [2, 1]
    names = "poison.attack.source, poison.attack.version"
    with pytest.raises(UserError, match=rf"called sem, .* than the seed \({names}\): .*--plan"):
        aggregate(frame(*alike, newer))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dataset", "npz:mine", "npz:mine, small-cnn, smoke preset"),
        ("learner", "resnet18", "shapes, resnet18, smoke preset"),
        ("preset", "smoke[training.lr=1]", "shapes, small-cnn, smoke[training.lr=1] preset"),
    ],
)
def test_every_setting_has_its_own_table_and_title(name: str, value: object, words: str) -> None:
    usual, other = tables(frame(cell("sem", 10), cell("sem", 20, **{name: value})))
    assert usual.title == "shapes, small-cnn, smoke preset"
    assert other.title == words
    (entry,) = other.rows["sem"]
    assert entry is not None
    assert entry.mean == 20


def test_defenses_at_one_radius_stand_side_by_side() -> None:
    by_defense, robust = tables(
        frame(
            cell("clean", 90),
            cell("clean", 80, defense="jpeg"),
            cell("sem", 10),
            cell("sem", 70, defense="jpeg"),
            cell("sem", 15, defense="cutout"),
            cell("rem", 60, defense="jpeg"),
            cell("rem", 55, defense="blur", rho_a="4/255"),
        )
    )
    assert by_defense.title == "shapes, small-cnn, smoke preset, rho_a 0"
    assert by_defense.headings == ["none", "jpeg", "cutout"]
    means = {n: [e and e.mean for e in entries] for n, entries in by_defense.rows.items()}
    assert means == {"clean": [90, 80, None], "sem": [10, 70, 15], "rem": [None, 60, None]}
    assert [e.best for e in by_defense.rows["sem"] if e] == [True, False, True]
    assert robust.title == "shapes, small-cnn, smoke preset, rho_a 4/255"
    assert robust.headings == ["blur"]


def test_a_defense_at_several_radii_has_a_table_of_its_own() -> None:
    cells = [
        cell("sem", 10 * k, defense=d, rho_a=f"{k}/255") for d in ("none", "jpeg") for k in (1, 2)
    ]
    plain, jpeg = tables(frame(*cells))
    assert (plain.axis, jpeg.axis) == ("rho_a", "rho_a")
    assert plain.title == "shapes, small-cnn, smoke preset"
    assert jpeg.title == "shapes, small-cnn, smoke preset, defense jpeg"


def test_shares_of_protected_images_are_columns_in_ascending_order() -> None:
    robust, table = tables(
        frame(
            cell("sem", 90, protect=0.8, rho_a="4/255"),
            cell("sem", 10),
            cell("sem", 30, protect=0.8),
            cell("remainder", 60, protect=0.8),
            cell("remainder", 85, protect=0.2),
        )
    )
    assert table.headings == ["20 % protected", "80 % protected", "100 % protected"]
    assert table.title == "shapes, small-cnn, smoke preset, rho_a 0"
    means = {n: [e and e.mean for e in entries] for n, entries in table.rows.items()}
    assert means == {"remainder": [85, 60, None], "sem": [None, 30, 10]}
    assert robust.title == "shapes, small-cnn, smoke preset, rho_a 4/255"


def test_protected_classes_have_a_table_of_their_own_test_images() -> None:
    cells = seeds("sem", [80.0, 82.0], protected_accuracy=4.0), seeds("clean", [90.0, 90.0])
    cells[1][0]["protected_accuracy"] = cells[1][1]["protected_accuracy"] = 88.0
    given = frame(*cells[0], *cells[1])
    overall, protected = tables(given)
    assert overall.rows["sem"][0].mean == 81  # type: ignore[union-attr]
    assert protected.rows["sem"][0].mean == 4  # type: ignore[union-attr]
    assert protected.title.endswith(", test images of the protected classes")
    rows = {row["attack"]: row for row in aggregate(given).to_dict("records")}
    assert rows["clean"]["protected_accuracy_mean"] == 88
    assert rows["clean"]["protected_accuracy_std"] == 0


def test_markdown_is_a_table_of_pipes() -> None:
    text = api.render(
        frame(
            cell("clean", 90),
            *seeds("sem", [10.0, 12.0]),
            cell("my|own", 20),
            cell("sem", 30, rho_a="4/255"),
        ),
        "markdown",
    )
    assert text.splitlines() == [
        "Clean test accuracy (%): shapes, small-cnn, smoke preset",
        "",
        "| method | rho_a 0 | rho_a 4/255 |",
        "|---|---|---|",
        "| clean | 90.0 (n=1) |  |",
        "| sem | **11.0 ± 1.4** | **30.0 (n=1)** |",
        "| my\\|own | 20.0 (n=1) |  |",
    ]


def test_latex_is_a_table_with_rules_bold_best_and_escaped_labels() -> None:
    text = api.render(
        frame(
            cell("clean", 90, dataset="npz:my_data"),
            *seeds("sem[lr=1%_#]", [10.0, 12.0], dataset="npz:my_data"),
            cell("a&b{c}~^\\", 30, rho_a="4/255", dataset="npz:my_data"),
        ),
        "latex",
    )
    lines = text.splitlines()
    rules = [line for line in lines if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"Method & $0$ & $4/255$ \\" in lines
    assert r"clean & 90.0 (n=1) & -- \\" in lines
    assert r"sem[lr=1\%\_\#] & \textbf{11.0 $\pm$ 1.4} & -- \\" in lines
    special = r"a\&b\{c\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert rf"{special} & -- & \textbf{{30.0 (n=1)}} \\" in lines
    assert r"npz:my\_data, small-cnn, smoke preset" in text
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1


def test_latex_as_a_document_has_a_preamble() -> None:
    text = api.render(frame(cell("sem", 10)), "latex", document="true")
    assert text.startswith("\\documentclass{article}\n\\usepackage{booktabs}\n")
    assert text.rstrip().endswith(r"\end{document}")


def test_escaping_leaves_plain_text_alone() -> None:
    assert escape("sem[steps=3], 4/255 (a-b)") == "sem[steps=3], 4/255 (a-b)"


def test_csv_and_json_hold_the_same_rows() -> None:
    results = frame(cell("clean", 90), *seeds("a,b", [10.0, 12.0]))
    objects = json.loads(api.render(results, "json"))
    rows = list(csv.DictReader(io.StringIO(api.render(results, "csv"))))
    assert [list(one) for one in (*objects, *rows)] == [COLUMNS] * 4
    assert [row["attack"] for row in rows] == ["clean", "a,b"]
    for one, row in zip(objects, rows, strict=True):
        assert {name: str(value) for name, value in one.items() if isinstance(value, str)} == {
            name: row[name] for name, value in one.items() if isinstance(value, str)
        }
        for name in COLUMNS[-7:-1]:
            assert float(row[name]) == pytest.approx(one[name])
    assert objects[1]["test_accuracy_std"] == pytest.approx(2**0.5)


def test_cells_in_common_stand_side_by_side_whatever_the_preset() -> None:
    fast = frame(*seeds("sem", [10.0, 14.0]), cell("em", 80.0, rho_a="4/255"), cell("rem", 30.0))
    paper = frame(
        cell("em", 83.0, rho_a="8/510", preset="paper"),
        cell("sem", 11.0, preset="paper"),
        cell("tap", 5.0, preset="paper"),
        cell("rem", 29.0, preset="paper", defense="jpeg"),
    )
    both = compare(fast, paper)
    found = both[["attack", "rho_a", "first", "second"]].to_numpy().tolist()
    assert found == [["sem", "0", 12.0, 11.0], ["em", "4/255", 80.0, 83.0]]


def test_the_rank_correlation_is_spearmans() -> None:
    names = ["clean", "em", "rem", "sem", "tap"]
    one, other = [[5, 4, 3, 2, 1], [50, 30, 40, 20, 10]]
    frames = [frame(*map(cell, names, map(float, values))) for values in (one, other)]
    # 1 - 6 * (sum of squared rank differences, 2) / (5 * 24)
    assert rank_correlation(compare(*frames)) == pytest.approx(0.9)
    alike = frame(*(cell(name, 10.0) for name in names))
    assert math.isnan(rank_correlation(compare(frames[0], alike)))


def test_cells_of_one_name_are_the_same_or_not_compared() -> None:
    def setting(epochs: int, **poison: str) -> str:
        return json.dumps({"poison": poison, "training": {"epochs": epochs}, "labels": [epochs]})

    def results(text: str) -> pd.DataFrame:
        return frame(cell("sem", 1.0, setting=text))

    both = compare(results(setting(1, data="x")), results(setting(2, data="x")))
    assert both["differing"].tolist() == [["training.epochs"]]
    with pytest.raises(UserError, match=r"sem, rho_a 0 on shapes is not .*: poison.data differ"):
        compare(results(setting(1, data="x")), results(setting(1, data="y")))


def test_what_cannot_be_compared_is_refused() -> None:
    sem = frame(cell("sem", 1.0))
    with pytest.raises(UserError, match="no cell in common"):
        compare(sem, frame(cell("sem", 1.0, rho_a="4/255")))
    with pytest.raises(UserError, match=r"several presets \(fast, smoke\)"):
        compare(sem, frame(cell("sem", 1.0), cell("sem", 2.0, preset="fast")))
    with pytest.raises(UserError, match="no finished cell"):
        compare(sem, pd.DataFrame())
