"""Figures by their data: what is drawn equals the records."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from figure_frames import cell, frame, lines, note, panels, seeds, setting, several
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from unlearnable_bench.errors import UserError
from unlearnable_bench.radius import Radius
from unlearnable_bench.reports.ablation_curves import AblationCurves, ablation_curves_data
from unlearnable_bench.reports.defense_curves import DefenseCurves, defense_curves_data
from unlearnable_bench.reports.heat_map import HeatMap, heat_map_data
from unlearnable_bench.reports.radius_curves import RadiusCurves, radius_curves_data
from unlearnable_bench.reports.time_protection import TimeProtection, time_protection_data
from unlearnable_bench.reports.training_curves import TrainingCurves, training_curves_data

# Two-sided 95 % quantile of Student's t with two degrees of freedom.
_T2 = 4.302652729911275


def names(made: Figure) -> list[str]:
    return [text.get_text() for text in made.legends[0].get_texts()]


def test_radius_curves_draw_the_means_of_the_records() -> None:
    made = RadiusCurves().render(several())
    (ax,) = panels(made)
    assert names(made) == ["Clean", "SEM", "EM"]
    assert lines(ax) == {
        "*": [(0, 94), (4, 93)],
        "o": [(0, 15), (4, 38)],
        "s": [(0, 22), (4, 84)],
    }
    assert ax.get_title(loc="left") == "Shapes, Small CNN, smoke preset"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "4/255"]


def test_radius_curves_have_t_intervals_from_three_seeds_on() -> None:
    data = radius_curves_data(several())
    sem = data[(data["method"] == "SEM") & (data["rho_a"] == "4/255")].iloc[0]
    half = _T2 * 2 / math.sqrt(3)  # of 36, 38, 40, whose standard deviation is 2
    assert (sem["low"], sem["high"]) == pytest.approx((38 - half, 38 + half))
    assert (sem["spread"], sem["seeds"]) == ("95 % interval", 3)
    assert sem["keys"].split() == ["key5", "key6", "key7"]
    em = data[data["method"] == "EM"]
    assert (em["low"] == em["mean"]).all()
    made = RadiusCurves().render(several())
    assert note(made) == "Mean over 1 to 3 seeds; bars: 95 % interval."


def test_the_bars_drawn_are_the_ends_in_the_data() -> None:
    found = frame(*seeds("sem", [10, 14]), *seeds("sem", [30, 40], "4/255"))
    data = radius_curves_data(found)
    assert data[["low", "high"]].to_numpy().tolist() == [[10, 14], [30, 40]]
    (ax,) = panels(RadiusCurves().render(found))
    (bars,) = ax.collections
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]  # type: ignore[attr-defined]
    assert ends == [[10, 14], [30, 40]]


def test_a_bar_stays_within_the_range_of_an_accuracy() -> None:
    data = radius_curves_data(
        frame(*seeds("sem", [99, 99.5, 90]), *seeds("sem", [1, 0, 9], "1/255"))
    )
    assert data["high"].max() == 100
    assert data["low"].min() == 0


def test_the_spread_can_be_the_standard_deviation_or_nothing() -> None:
    found = several()
    sem = radius_curves_data(found, spread="std").query("method == 'SEM' and rho_a == '4/255'")
    assert (sem["low"].iloc[0], sem["high"].iloc[0]) == pytest.approx((36, 40))
    bare = radius_curves_data(found, spread="none")
    assert (bare["low"] == bare["high"]).all()
    high = frame(*seeds("sem", [100, 100, 97]), *seeds("sem", [100, 100, 97], "4/255"))
    assert radius_curves_data(high, spread="std")["high"].max() == 100  # not 99 + 1.7
    (ax,) = panels(RadiusCurves(spread="none").render(found))
    assert not ax.collections


def test_radii_are_placed_by_value_and_equal_ones_are_one_point() -> None:
    found = frame(
        cell("sem", 3, "8/255"), cell("sem", 1, "0"), cell("sem", 2, "0.5/255"),
        cell("sem", 4, "8/510", seed=1), cell("sem", 6, "4/255", seed=0),
    )  # fmt: skip
    data = radius_curves_data(found)
    assert data["radius"].tolist() == [0, 0.5, 4, 8]
    assert data[data["radius"] == 4]["mean"].tolist() == [5]
    (ax,) = panels(RadiusCurves().render(found))
    assert ax.get_xlabel().endswith("(1/255)")  # 0 and 0.5/255 have no room for both labels


def test_settings_are_panels_and_a_setting_of_one_radius_is_left_out() -> None:
    found = frame(
        cell("sem", 1), cell("sem", 2, "4/255"),
        cell("sem", 3, learner="resnet18"), cell("sem", 4, "4/255", learner="resnet18"),
        cell("sem", 5, preset="fast"),
    )  # fmt: skip
    made = RadiusCurves().render(found)
    titles = [ax.get_title(loc="left") for ax in panels(made)]
    assert titles == ["Shapes, Small CNN, smoke preset", "Shapes, ResNet-18, smoke preset"]
    wide = RadiusCurves(width=178).render(found)
    assert len({ax.get_position().y0 for ax in panels(wide)}) == 1


def test_too_many_panels_are_refused_with_the_way_out() -> None:
    cells = [cell("sem", 1, r, learner=f"l{k}") for k in range(13) for r in ("0", "4/255")]
    with pytest.raises(UserError, match="13 panels, but at most 12 fit; select with"):
        RadiusCurves().render(frame(*cells))


def test_failed_cells_and_missing_numbers_are_left_out() -> None:
    found = frame(
        cell("sem", 10), cell("sem", 20, "4/255"), cell("em", math.nan), cell("em", 30, "4/255"),
        cell("rem", math.nan, status="failed"), cell("rem", math.nan, "4/255", status="missing"),
    )  # fmt: skip
    made = RadiusCurves().render(found)
    assert names(made) == ["SEM", "EM"]
    assert lines(panels(made)[0])["s"] == [(4, 30)]


def test_time_protection_is_clean_accuracy_less_accuracy() -> None:
    data = time_protection_data(several())
    assert data["method"].tolist() == ["SEM", "EM"]
    assert data["generation"].tolist() == [300, 40]
    # Only seed 0 has clean data too.
    assert data["mean"].tolist() == [93 - 36, 93 - 84]
    assert data["rho_a"].tolist() == ["4/255", "4/255"]
    made = TimeProtection().render(several())
    (ax,) = panels(made)
    assert lines(ax) == {"o": [(300, 57)], "s": [(40, 9)]}
    assert ax.get_xscale() == "log"


def test_protection_is_paired_by_seed() -> None:
    found = frame(
        *seeds("clean", [90, 92, 94], "4/255"), *seeds("sem", [30, 33, 36], "4/255"),
    )  # fmt: skip
    (row,) = time_protection_data(found).to_dict("records")
    half = _T2 * 1 / math.sqrt(3)  # differences 60, 59, 58
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((59, 59 - half, 59 + half))
    other = frame(
        *seeds("clean", [90, 92], "4/255"), cell("sem", 30, "4/255", seed=7),
    )  # fmt: skip
    (row,) = time_protection_data(other).to_dict("records")
    assert (row["mean"], row["spread"], row["seeds"]) == (61, "", 1)


def test_time_protection_says_where_and_how_the_noise_was_made() -> None:
    found = several()
    found.loc[found["attack"] == "sem", ["generation_resumed", "generation_device"]] = [
        True,
        "H200",
    ]
    text = note(TimeProtection().render(found))
    assert "Generation on H200, CPU." in text
    assert "Interrupted and resumed: SEM." in text


def test_time_protection_takes_a_radius_and_leaves_out_noise_read_from_a_file() -> None:
    found = pd.concat([several(), frame(cell("file[path=x]", 9, "0"))], ignore_index=True)
    data = time_protection_data(found, rho_a=Radius("0"))
    assert data["mean"].tolist() == [94 - 13, 94 - 22]
    with pytest.raises(UserError, match="at rho_a 1/255"):
        time_protection_data(found, rho_a=Radius("1/255"))
    with pytest.raises(UserError, match="--methods clean,sem --rho-a 4/255"):
        TimeProtection().render(frame(cell("clean", 90), cell("sem", 10)))


def test_training_curves_mark_the_final_and_the_peak_accuracy() -> None:
    found = frame(
        cell("sem", 20, epoch_accuracy=[10, 40, 30, 20]),
        cell("clean", 90, epoch_accuracy=[50, 70, 80, 90]),
    )
    made = TrainingCurves().render(found)
    (ax,) = panels(made)
    curves = [list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 4]  # type: ignore[arg-type]
    assert curves == [[50, 70, 80, 90], [10, 40, 30, 20]]
    assert lines(ax) == {"*": [(4, 90), (4, 90)], "o": [(2, 40), (4, 20)]}
    fills = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"]
    assert fills[0] == "white"
    assert fills[1] != "white"
    assert note(made) == "Filled: final; hollow: peak. One seed."


def test_training_curves_are_means_over_seeds_with_their_range() -> None:
    found = frame(
        cell("sem", 20, epoch_accuracy=[10, 40, 20]),
        cell("sem", 30, seed=1, epoch_accuracy=[20, 20, 30]),
    )
    data = training_curves_data(found)
    assert data[data["kind"] == "epoch"]["mean"].tolist() == [15, 30, 25]
    assert data[data["kind"] == "epoch"]["low"].tolist() == [10, 20, 20]
    (peak,) = data[data["kind"] == "peak"].to_dict("records")
    assert (peak["epoch"], peak["mean"]) == (2.5, 35)  # as the tables: the mean of the peaks
    (final,) = data[data["kind"] == "final"].to_dict("records")
    assert (final["epoch"], final["mean"]) == (3, 25)
    made = TrainingCurves().render(found)
    assert len(panels(made)[0].collections) == 1
    assert "mean of the seeds' peaks" in note(made)


def test_training_curves_show_defended_training_only_if_it_is_selected() -> None:
    found = several()
    titles = set(training_curves_data(found)["panel"])
    assert titles == {f"Shapes, Small CNN, smoke preset, ρₐ = {r}" for r in ("0", "4/255")}
    (title,) = set(training_curves_data(found[found["defense"] == "jpeg"])["panel"])
    assert title == "Shapes, Small CNN, smoke preset, JPEG, ρₐ = 0"


@pytest.mark.parametrize("curve", [None, [], [math.nan], math.nan])
def test_records_without_curves_are_a_clear_error(curve: Any) -> None:
    with pytest.raises(UserError, match="no finished cell has accuracies over epochs"):
        TrainingCurves().render(frame(cell("sem", 1, epoch_accuracy=curve)))


def sweep() -> pd.DataFrame:
    return frame(
        *(
            cell(f"sem[noise_steps={n}]" if n != 10 else "sem", 50 - n, rho,
                 setting=setting({"noise_steps": n, "samples": 5}, rho_a=rho))
            for rho in ("0", "4/255")
            for n in (20, 10, 5)
        ),
        cell("sem[samples=1]", 7, setting=setting({"noise_steps": 10, "samples": 1}, rho_a="0")),
        cell("em", 9, setting=setting({"steps": 3}, name="em", rho_a="0")),
    )  # fmt: skip


def test_ablation_curves_join_cells_that_differ_in_the_option_alone() -> None:
    data = ablation_curves_data(sweep(), "sem.noise_steps")
    assert [*dict.fromkeys(data["line"])] == ["SEM, ρₐ = 0", "SEM, ρₐ = 4/255"]
    assert data["value"].tolist() == [5, 10, 20] * 2
    assert data["mean"].tolist() == [45, 40, 30] * 2
    (ax,) = panels(AblationCurves(option="sem.noise_steps").render(sweep()))
    assert lines(ax)["o"] == [(5, 45), (10, 40), (20, 30)]
    assert ax.get_xlabel() == "sem.noise_steps"


def test_every_option_that_varies_is_a_panel_of_its_own() -> None:
    made = AblationCurves().render(sweep())
    assert [ax.get_xlabel() for ax in panels(made)] == ["sem.noise_steps", "sem.samples"]
    assert lines(panels(made)[1])["o"] == [(1, 7), (5, 40)]


def test_an_ablation_over_seeds_has_intervals() -> None:
    cells = [
        cell(f"sem[steps={n}]", n + k, seed=k, setting=setting({"steps": n}))
        for n in (10, 1000)
        for k in (0, 1, 2)
    ]
    data = ablation_curves_data(frame(*cells))
    assert data["mean"].tolist() == [11, 100 * 10 + 1]
    half = _T2 / math.sqrt(3)
    assert (11 - data["low"]).iloc[0] == pytest.approx(half)
    (ax,) = panels(AblationCurves().render(frame(*cells)))
    assert ax.get_xscale() == "log"


def test_radii_and_numbers_are_swept_but_not_flags_or_texts() -> None:
    options = [{"rho_a": f"{k}/255", "flag": bool(k), "mode": f"m{k}"} for k in (1, 2)]
    found = frame(*(cell("sem", k, setting=setting(one)) for k, one in enumerate(options)))
    with pytest.raises(UserError, match="no numeric option of an attack has two values"):
        AblationCurves().render(found)  # flag and mode differ too
    same = [{"rho_a": f"{k}/255"} for k in (1, 2)]
    found = frame(*(cell("sem", k, setting=setting(one)) for k, one in enumerate(same)))
    assert ablation_curves_data(found)["value"].tolist() == pytest.approx([1, 2])
    (ax,) = panels(AblationCurves().render(found))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1/255", "2/255"]


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"em\.steps, sem\.noise_steps, sem\.samples"):
        AblationCurves(option="sem.noise").render(sweep())
    with pytest.raises(UserError, match="has only one value"):
        AblationCurves(option="em.steps").render(sweep())


def test_defense_curves_have_one_line_a_method() -> None:
    cells = [
        cell(attack, accuracy + quality, defense=f"jpeg[quality={quality}]",
             setting=setting({}, {"quality": quality}, name=attack))
        for attack, accuracy in (("sem", 0), ("em", 9))
        for quality in (90, 50, 10)
    ]  # fmt: skip
    found = frame(*cells, cell("sem", 5, setting=setting({})))
    data = defense_curves_data(found)
    assert data["line"].tolist() == ["SEM"] * 3 + ["EM"] * 3
    made = DefenseCurves().render(found)
    assert lines(panels(made)[0]) == {
        "o": [(10, 10), (50, 50), (90, 90)],
        "s": [(10, 19), (50, 59), (90, 99)],
    }


def test_a_joined_defense_is_swept_in_its_parts() -> None:
    cells = []
    for quality in (10, 90):
        part = {"name": "jpeg", "options": {"quality": quality}, "version": "1"}
        joined = {"name": "jpeg+cutmix", "options": {"parts": [part]}, "version": ""}
        label = f"jpeg[quality={quality}]+cutmix"
        text = json.dumps({"poison": {}, "defense": joined})
        cells.append(cell("sem", quality, defense=label, setting=text))
    data = defense_curves_data(frame(*cells))
    assert data["option"].tolist() == ["jpeg.quality"] * 2
    assert data["line"].tolist() == ["SEM, JPEG + CutMix"] * 2


def test_the_heat_map_holds_the_means_and_blanks_what_was_not_run() -> None:
    data = heat_map_data(several())
    assert data["column"].tolist() == ["None", "None", "JPEG"]  # SEM met no defense
    made = HeatMap().render(several())
    (ax,) = panels(made)
    (mesh,) = (one for one in ax.collections if isinstance(one, QuadMesh))
    values = np.ma.filled(mesh.get_array(), np.nan).reshape(2, 2)  # type: ignore[arg-type]
    assert values.tolist()[1] == [22, 80]
    assert values[0, 0] == 94
    assert math.isnan(values[0, 1])
    assert [text.get_text() for text in ax.texts] == ["94", "22", "80"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["Clean", "EM"]
    assert made.get_supxlabel() == "One seed. Hatched: not run or not finished."


def test_the_heat_map_has_a_panel_a_radius() -> None:
    cells = [
        cell("sem", 10 * k, rho, defense=defense)
        for k, (rho, defense) in enumerate(
            [("0", "none"), ("0", "jpeg"), ("4/255", "none"), ("4/255", "jpeg"), ("1/255", "none")]
        )
    ]
    made = HeatMap(digits=1).render(frame(*cells))
    assert [ax.get_title(loc="left").rpartition(" ")[2] for ax in panels(made)] == ["0", "4/255"]
    assert [t.get_text() for t in panels(made)[1].texts] == ["20.0", "30.0"]
    with pytest.raises(UserError, match="no cell has a defense"):
        HeatMap().render(frame(cell("sem", 1)))
