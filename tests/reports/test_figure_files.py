"""Figures as files: the same bytes, in colour and in grey, whatever names hold."""

import hashlib
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from figure_frames import cell, frame, several
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from unlearnable_bench.contract import Report
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._figure import (
    COLUMN_WIDTH,
    figure,
    house_style,
    literal,
    look,
    looks,
    saved,
)
from unlearnable_bench.reports.heat_map import HeatMap
from unlearnable_bench.reports.radius_curves import RadiusCurves
from unlearnable_bench.reports.time_protection import TimeProtection
from unlearnable_bench.reports.training_curves import TrainingCurves
from unlearnable_bench.results.names import display

REPORTS = [RadiusCurves(), TimeProtection(), TrainingCurves(), HeatMap()]

# Made in another process, at what its clock takes for another time.
_ELSEWHERE = """
import hashlib, sys, time
sys.path.insert(0, sys.argv[1])
real = time.time
time.time = lambda: real() + 86400 * 400
from figure_frames import several
from unlearnable_bench.reports._figure import saved
from unlearnable_bench.reports.radius_curves import RadiusCurves
made = RadiusCurves().render(several())
print(*(hashlib.sha256(saved(made, form)).hexdigest() for form in ("svg", "pdf", "png")))
assert "matplotlib.pyplot" not in sys.modules
"""


def test_a_figure_has_the_same_bytes_in_every_process_and_at_every_time() -> None:
    made = RadiusCurves().render(several())
    here = [hashlib.sha256(saved(made, form)).hexdigest() for form in ("pdf", "png", "svg")]
    again = [hashlib.sha256(saved(made, form)).hexdigest() for form in ("pdf", "png", "svg")]
    assert here == again
    tests = Path(__file__).parents[1]
    elsewhere = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(tests)],
        env=os.environ | {"PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert [elsewhere[1], elsewhere[2], elsewhere[0]] == here


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_rendering_twice_gives_the_same_file(report: Report) -> None:
    found = several()
    before = found.copy(deep=True)
    one, other = (saved(_figure(report, found), "svg") for _ in range(2))
    assert one == other
    assert found.equals(before)
    assert b"<dc:date>" not in one


def _figure(report: Report, found: object) -> Figure:
    made = report.render(found)  # type: ignore[arg-type]
    assert isinstance(made, Figure)
    return made


def test_the_files_are_what_their_names_say_and_a_column_wide(tmp_path: Path) -> None:
    made = RadiusCurves().render(several())
    pdf = saved(made, "pdf")
    assert pdf.startswith(b"%PDF")
    assert b"/CreationDate" not in pdf
    assert b"/FontFile2" in pdf  # TrueType: publishers refuse Type 3
    assert b"/Type3" not in pdf
    path = tmp_path / "figure.png"
    path.write_bytes(saved(made, "png"))
    with Image.open(path) as picture:
        assert picture.width == int(COLUMN_WIDTH / 25.4 * 300)
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert RadiusCurves(width=178).render(several()).get_figwidth() == pytest.approx(178 / 25.4)
    with pytest.raises(UserError, match="unknown format of figures 'gif'"):
        saved(made, "gif")


def test_a_users_settings_neither_count_nor_change() -> None:
    usual = saved(RadiusCurves().render(several()), "svg")
    theirs = {"font.size": 30, "text.usetex": True, "savefig.bbox": "tight", "lines.linewidth": 9}
    with mpl.rc_context(theirs):
        assert saved(RadiusCurves().render(several()), "svg") == usual
        assert mpl.rcParams["font.size"] == 30
        with pytest.raises(UserError):
            RadiusCurves().render(frame(cell("sem", 1)))
        assert mpl.rcParams["font.size"] == 30


def test_methods_are_told_apart_without_colour() -> None:
    many = [look(k) for k in range(40)] + [look(k, control=True) for k in range(3)]
    kinds = [(one.marker, str(one.linestyle)) for one in many]
    assert len(set(kinds)) == len(kinds)
    few = many[:7]
    for one, other in combinations(few, 2):
        assert one.marker != other.marker
        assert one.linestyle != other.linestyle
        assert one.color != other.color


def test_colours_are_far_apart_for_readers_who_see_two_primaries() -> None:
    # Deuteranopia after Vienot, Brettel and Mollon (1999), on linear RGB.
    lms = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    blind = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    see = np.linalg.inv(lms) @ blind @ lms
    seen = [see @ np.array(to_rgb(look(k).color)) ** 2.2 for k in range(6)]
    distances = [np.linalg.norm(one - other) for one, other in combinations(seen, 2)]
    assert min(distances) > 0.08


def test_a_method_keeps_its_look_whatever_else_a_panel_shows() -> None:
    labels = [("clean", "0"), ("sem", "8/255"), ("em", "8/255"), ("sem", "8/255")]
    found = looks(labels)
    assert [*found] == labels[:3]
    assert found["sem", "8/255"] == look(0)
    assert found["em", "8/255"] == look(1)
    assert found["clean", "0"].color == look(0, control=True).color
    grey = to_rgb(found["clean", "0"].color)
    assert grey[0] == grey[1] == grey[2]
    assert found["clean", "0"].linestyle != "-"


HOSTILE = [
    "$x^2$", "a_b^c", r"\frac{1}{2}", "100 % & # ~ {}", "$", "$$", r"\$5 and $6", "_hidden",
    "<b>&amp;</b>", "-->", "a\nb\tc", "\x00\x1b[31m", "\u202eevil", "\ud800", "=1+1", "x" * 300,
    "中文", "日本語", "한국어", "हिन्दी", "ไทย", "العربية", "עברית",
    "Ελληνικά", "Кириллица", "😀", "",
]  # fmt: skip


@pytest.mark.usefixtures("python_strings")
@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_any_name_is_drawn_literally_and_without_a_warning(name: str) -> None:
    usual = {"dataset": name, "learner": name}
    found = frame(
        cell(f"{name}m", 20, **usual), cell("clean", 90, **usual),
        cell(f"{name}m", 30, "4/255", **usual), cell("clean", 80, "4/255", **usual),
    )  # fmt: skip
    made = RadiusCurves().render(found)
    title = literal(f"{display(name)}, {display(name)}, smoke preset")
    drawn = made.axes[0].get_title(loc="left").replace("\n", "")
    assert drawn.replace(" ", "")[:20] == title.replace(" ", "")[:20]
    method = made.legends[0].get_texts()[1]
    shown, wanted = method.get_text(), literal(display(f"{name}m"))
    assert shown.replace("\n", "").replace(" ", "")[:20] == wanted.replace(" ", "")[:20]
    assert not method.get_parse_math()
    saved(made, "svg")


@pytest.mark.usefixtures("python_strings")
@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_every_report_draws_any_names_in_every_format(report: Report) -> None:
    names = [name for name in HOSTILE if len(name) < 100]
    cells = [
        cell(attack, 20.0 + k, rho, defense=defense)
        for k, (rho, defense) in enumerate([("0", "none"), ("4/255", "none"), ("4/255", "$z_{")])
        for attack in [*(f"{name}m" for name in names), "clean"]
    ]
    cells += [cell("em", 5, "4/255", defense=f"{name}d") for name in names]
    made = _figure(report, frame(*cells))
    texts = [text for text in made.findobj(Text) if isinstance(text, Text)]
    assert any("$x^2$m" in text.get_text() for text in texts)
    assert not any(text.get_parse_math() for text in texts)
    for form in ("svg", "pdf", "png"):
        assert saved(made, form)


def test_what_no_font_has_becomes_its_code_and_an_alias_helps() -> None:
    assert literal("中文 SEM") == "[U+4E2D U+6587] SEM"
    assert literal("a\u202eb\x07") == "a[U+202E]b[U+0007]"
    assert literal("  a \n b ") == "a b"
    assert literal("Ελληνικά Кириллица العربية") == "Ελληνικά Кириллица العربية"
    assert literal(r"$x_1$ \alpha %") == r"$x_1$ \alpha %"
    assert literal("one two three", width=8) == "one two\nthree"
    assert literal("fast preset, a = 0", width=15) == "fast preset,\na = 0"
    assert literal("a b c d e", width=1).splitlines()[:2] == ["a", "b"]
    assert literal("a b c d e", width=1).endswith("…")
    found = frame(cell("中文", 1), cell("中文", 2, "4/255"))
    made = RadiusCurves(aliases="中文=Ours").render(found)
    assert [text.get_text() for text in made.legends[0].get_texts()] == ["Ours"]


def test_nothing_is_clipped_and_the_legend_is_below_the_panels() -> None:
    cells = [
        cell(f"method-{k}[a_long_option=12345,another={k}]", 5.0 * k, rho, learner=learner)
        for k in range(8)
        for rho in ("0", "1/255", "2/255", "4/255")
        for learner in ("resnet18", "vgg16-bn")
    ]
    for report in (RadiusCurves(), TrainingCurves(), RadiusCurves(width=178)):
        made = _figure(report, frame(*cells))
        made.draw_without_rendering()
        renderer = made.canvas.get_renderer()  # type: ignore[attr-defined]
        whole = made.bbox
        lowest = min(ax.get_tightbbox(renderer).y0 for ax in made.axes)  # type: ignore[union-attr]
        legend = made.legends[0].get_window_extent(renderer)
        assert legend.y1 <= lowest + 1
        for artist in (*made.axes, made.legends[0]):
            box = artist.get_tightbbox(renderer)
            assert box is not None
            assert box.x0 >= whole.x0 - 1
            assert box.x1 <= whole.x1 + 1
            assert box.y0 >= whole.y0 - 1
            assert box.y1 <= whole.y1 + 1


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_one_cell_is_a_picture_or_one_clear_line(report: Report) -> None:
    one = frame(cell("sem", 10))
    if isinstance(report, TrainingCurves):
        assert saved(_figure(report, one), "png")
        return
    with pytest.raises(UserError, match="ubench run") as caught:
        report.render(one)
    assert "\n" not in str(caught.value)


def test_an_empty_frame_is_one_clear_line() -> None:
    for nothing in (several().iloc[:0], pd.DataFrame(), frame(cell("sem", 1, status="failed"))):
        for report in REPORTS:
            with pytest.raises(UserError, match="no finished cell"):
                report.render(nothing)


def test_an_empty_figure_of_another_report_is_saved_too() -> None:
    with house_style():
        made = figure(50, 30)
        made.text(0.5, 0.5, "$x$")
    assert saved(made, "pdf") == saved(made, "pdf")
