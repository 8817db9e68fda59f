"""Report `paired`: ranks, and differences of pairs of methods on common seeds."""

import pytest
from report_cells import frame, near, seeds
from table_views import headings, texts

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports.paired import p_text, paired_tables


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


def test_pairs_and_ranks_name_what_collapsed() -> None:
    usual = {"classes": 10, "train_accuracy": 99.0}
    rest = [*near("sem", 20, **usual), *near("rem", 50, **usual)]
    collapsed = near("tap", 10, **(usual | {"train_accuracy": 10.0}))
    for table in paired_tables(frame(*collapsed, *rest)):
        assert any("collapsed for some cells of TAP: at chance" in note for note in table.notes)
    assert not any("collapsed" in str(table.notes) for table in paired_tables(frame(*rest)))
