"""LaTeX tables, compiled by a real pdflatex and read back from the page by pdftotext."""
# ruff: noqa: RUF001 - dashes and letters that look like others are what is on the page

import re
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_cells import cell, frame, near, seeds, setting

from unlearnable_bench import api
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._latex import PACKAGES
from unlearnable_bench.reports._latex_text import breakable, escape, latin
from unlearnable_bench.results.rendering import render

REPORTS = (
    *("main", "defenses", "protection", "transfer", "time", "ablation", "worst-case"),
    *("quality", "paired", "failures", "cost"),
)
# Two columns of 86 mm, as those of a common conference.
PAPER = (
    r"\documentclass[10pt,twocolumn]{article}"
    r"\usepackage[textwidth=178mm,columnsep=6mm,textheight=230mm]{geometry}"
    rf"\usepackage{{{','.join(PACKAGES)}}}"
)
DEFENSES = (
    *("bilateral-filter", "bit-depth", "cutmix", "cutout", "early-stopping", "fgsm", "grayscale"),
    *("gaussian-blur", "gaussian-filter", "gaussian-noise", "jpeg", "mart", "mean-filter"),
    *("median-filter", "mixup", "orthogonal-projection", "pgd-l2", "randaugment", "trades"),
    *("ueraser-lite", "ueraser-max"),
)


def latex(found: pd.DataFrame, report: str = "main", **settings: Any) -> str:
    return str(render(found, report, "latex", **settings))


def body(document: str) -> str:
    return document.partition("\\begin{document}\n")[2].partition("\\end{document}")[0]


def compiled(folder: Path, text: str) -> str:
    """Compile a document; return the text of its pages, with one blank between words.

    Nothing may stick out by more than a point, no font may be a bitmap.
    """
    (folder / "paper.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = (folder / "paper.log").read_bytes().decode(errors="replace").replace("\n", "")
    assert done.returncode == 0, log[-3000:]
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \((\d+\.\d+)pt", log)]
    assert max(wide, default=0) <= 1, re.findall(r"Overfull .{150}", log)
    for undefined in ("undefined", "Missing character", "unavailable", "multiply defined"):
        assert undefined not in log
    fonts = subprocess.run(["pdffonts", "paper.pdf"], cwd=folder, capture_output=True, check=True)
    assert b"Type 3" not in fonts.stdout
    command = ["pdftotext", "-layout", "paper.pdf", "-"]
    shown = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout.decode()
    return re.sub(r"[ \t]+", " ", shown)


def paper(folder: Path, *parts: str) -> str:
    text = "\n\\clearpage\n".join(parts)
    return compiled(folder, f"{PAPER}\n\\begin{{document}}\nText.\n{text}\n\\end{{document}}\n")


def alone(folder: Path, *documents: str) -> str:
    """Compile the tables of several documents as one, under the preamble of the first."""
    preambles = {document.partition("\\begin{document}")[0] for document in documents}
    packages = {re.sub(r"(?m)^% \".*\n", "", preamble) for preamble in preambles}
    assert len(packages) == 1
    text = "\n\\clearpage\n".join(map(body, documents))
    return compiled(folder, f"{packages.pop()}\\begin{{document}}\n{text}\n\\end{{document}}\n")


def whole() -> pd.DataFrame:
    """Cells of which every report makes tables, with many columns and long names."""
    more = {
        "status": "done", "reason": "", "classes": 10, "train_accuracy": 99.0,
        "peak_accuracy": 97.5, "linf": 8.0, "l2": 1.25, "psnr": 31.25, "ssim": 0.934,
        "generation_device": "NVIDIA H200", "generation_resumed": False,
        "generation_warmup_seconds": 12.3, "generation_environment": {"driver": "1"},
        "dataset": "cifar10", "learner": "resnet18", "preset": "paper",
    }  # fmt: skip
    cells = []
    for k, name in enumerate(("clean", "random", "em", "tap", "ntga", "rem", "sem")):
        for j, radius in enumerate(("0", "1/255", "2/255", "3/255", "4/255")):
            sure = near(name, 90 - 12 * k + j, rho_a=radius, generation_seconds=1000.0 / (k + 1))
            cells += sure if name != "ntga" else seeds(name, [1.0, 5.0, 80.0], rho_a=radius)
    for name in ("em", "sem"):
        for k, defense in enumerate(DEFENSES):
            cells += near(name, 30 + k, defense=defense)
        for share in (0.2, 0.4, 0.6, 0.8):
            cells += near(name, 90 - 60 * share, protect=share)
        for learner in ("vgg16-bn", "densenet121", "wrn-34-10", "mobilenetv2"):
            cells += near(name, 20, learner=learner)
    for steps in (5, 20):
        label = f"sem[noise_steps={steps},perturbation=gaussian]"
        options = setting(noise_steps=steps, perturbation="gaussian")
        cells += near(label, 20 + steps, setting=options)
    cells += seeds("sc", [16.0, 16.0, 16.0], rho_u="l2 1.3041")
    reason = "OutOfMemoryError: CUDA out of memory at /home/me/very/long/path/of_a_folder/file.py"
    cells.append(cell("tap", float("nan"), rho_a="8/255", status="failed", reason=reason))
    plain = setting(noise_steps=10, perturbation="uniform")
    return frame(*(more | {"setting": plain if c["attack"] == "sem" else "{}"} | c for c in cells))


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return whole()


def test_every_report_compiles_alone_as_a_document(cells: pd.DataFrame, tmp_path: Path) -> None:
    documents = [latex(cells, report, document="true") for report in REPORTS]
    shown = alone(tmp_path, *documents)
    for number in range(1, sum(text.count(r"\caption") for text in documents) + 1):
        assert f"Table {number}:" in shown
    assert "SEM 18.0 ± 0.1 19.0 ± 0.1 20.0 ± 0.1 21.0 ± 0.1 22.0 ± 0.1" in shown
    assert "Clean test accuracy (%): CIFAR-10, ResNet-18, paper preset." in shown


def test_every_report_compiles_in_a_paper_of_two_columns(
    cells: pd.DataFrame, tmp_path: Path
) -> None:
    parts = [latex(cells, report, two_column="true") for report in REPORTS]
    parts += [latex(cells, "main", two_column="true", label="t:", **more) for more in (
        {"peak": "true"},
    )]  # fmt: skip
    paper(tmp_path, *parts)
    joined = "\n".join(parts)
    assert r"\begin{table}[t]" in joined
    assert r"\begin{table*}[t]" in joined


def test_every_style_compiles(cells: pd.DataFrame, tmp_path: Path) -> None:
    styles: list[dict[str, str]] = [
        {"transpose": "true"},
        {"spread": "interval", "peak": "true"},
        {"spread": "none", "digits": "2"},
        {"budget": "true", "aliases": "sem=Ours,em=EM*"},
    ]
    documents = [
        latex(cells, report, document="true", label=f"{k}:", **style)
        for k, style in enumerate(styles)
        for report in ("main", "defenses", "time")
    ]
    shown = alone(tmp_path, *documents)
    assert "18.0 [17.8, 18.2] / 97.5" in shown
    assert "EM*" in shown.replace("∗", "*")
    assert "ρu" in shown


def test_numbers_are_printed_as_they_are(tmp_path: Path) -> None:
    found = frame(
        *near("clean", 95.0),
        *seeds("zero", [100.0, 100.0, 100.0]),
        *seeds("wide", [1.0, 4.1, 23.4]),
        *near("sem", 0.4),
        *seeds("few", [99.0, 99.2]),
        *near("gap", 50, rho_a="4/255"),
    )
    text = latex(found, document="true")
    shown = compiled(tmp_path, text)
    # A deviation of zero stays, one larger than the mean too.
    assert "zero 100.0 ± 0.0 –" in shown
    assert "wide 9.5 ± 12.1 –" in shown
    assert "few 99.1 ± 0.1 (n=2) –" in shown.replace("( n", "(n")
    assert "SEM 0.4 ± 0.1 –" in shown
    assert "gap – 50.0 ± 0.1" in shown
    # Nothing is bold here: the intervals of the two lowest overlap.
    assert "bfseries" not in text


def test_bold_numbers_are_in_a_bold_font(tmp_path: Path) -> None:
    text = latex(frame(*near("sem", 10), *near("rem", 20)), document="true")
    assert r"SEM & \bfseries 10.0 & \bfseries 0.1 \\" in text
    assert "SEM 10.0 ± 0.1" in compiled(tmp_path, text)
    fonts = subprocess.run(["pdffonts", "paper.pdf"], cwd=tmp_path, capture_output=True, check=True)
    assert b"CMBX" in fonts.stdout
    plain = text.replace(r"\bfseries ", "")
    compiled(tmp_path, plain)
    fonts = subprocess.run(["pdffonts", "paper.pdf"], cwd=tmp_path, capture_output=True, check=True)
    assert b"CMBX" not in fonts.stdout


def test_tiny_p_values_and_negative_differences_are_printed_as_they_are(tmp_path: Path) -> None:
    values = [10.0, 10.1, 10.2, 10.1, 10.0]
    found = frame(
        *seeds("sem", values), *seeds("rem", [v + 60 + k / 50 for k, v in enumerate(values)])
    )
    shown = compiled(tmp_path, latex(found, "paired", document="true"))
    assert re.search(r"SEM vs REM 5 −60\.04 \[-60\.08, -60\.00\] <0\.001 <0\.001", shown)


def test_marks_are_printed_behind_the_number_and_explained_below(tmp_path: Path) -> None:
    found = frame(
        *near("sem", 10, status="done"),
        cell("sem", float("nan"), seed=3, status="failed", setting=""),
        cell("rem", float("nan"), status="missing", setting=""),
    )
    shown = compiled(tmp_path, latex(found, document="true"))
    assert "SEM 10.0 ± 0.1!" in shown
    assert "REM ?" in shown
    assert "! some or all seeds failed (see the report failures)" in shown
    assert "? some requested cells are not finished" in shown


NAMES = {
    "a&b%c$d#e_f{g}h": "a&b%c$d#e f{g}h",
    "~tilde^hat\\back": "~tilde^hat\\back",
    r"\input{/etc/passwd}": r"\input{/etc/passwd}",
    r"\write18{rm}": r"\write18{rm}",
    "<b>|bar|": "<b>|bar|",
    "[opt] *star": "[opt] *star",
    "a--b,,c": "a--b,,c",
    "$x^2$": "$x^2$",
    "café naïve": "cafe naıve",
    "αβγ Ωμέγα": "αβγ Ωμεγα",
    "样本": "YangBen",
    "Привет": "Privet",
    "مرحبا": "mrhb",
    "😀": ":grinning:",
    "Łódź đ ą": "Lodz d a",
    "=1+1": "=1 + 1",
    "**bold** `code`": "**bold** ‘code‘",
    "\x1b[31mred": "red",
    "\ue000": "?",
}


def plain(shown: str) -> str:
    """Return text of a page without accents and blanks, and with the keyboard's characters."""
    same = str.maketrans("∗˜ˆ’", "*~^'", " \n´¨")
    letters = unicodedata.normalize("NFKD", shown.translate(same))
    return "".join(each for each in letters if not unicodedata.combining(each))


def test_names_in_any_script_and_any_syntax_are_printed(tmp_path: Path) -> None:
    rows = frame(*(cell(name, 10 + k / 10) for k, name in enumerate(NAMES)))
    columns = frame(*(cell("sem", 10, defense=name) for name in ("none", *NAMES)))
    sets = frame(*(cell("sem", 10, dataset=f"npz:{name}") for name in NAMES))
    documents = [
        latex(rows, document="true"),
        latex(columns, "defenses", document="true", label="d:"),
        latex(sets, document="true", label="s:"),
    ]
    shown = plain(alone(tmp_path, *documents))
    for k, name in enumerate(NAMES.values()):
        assert plain(f"{name}{10 + k / 10:.1f}") in shown, name
    assert not (tmp_path / "18").exists()
    assert documents[0].count(r"\begin{table}") == documents[0].count(r"\end{table}") == 1


def test_what_was_romanised_is_named_in_a_comment_and_stays_apart() -> None:
    text = latex(frame(cell("样", 10), cell("様", 20), cell("é", 30)))
    assert '% "Yang" is 样; unicode=true keeps it' in text
    names = [line.partition(" & ")[0] for line in text.splitlines() if " & " in line]
    assert len(set(names)) == 4
    assert names[-1] == r"\'{e}"
    assert text.replace("样", "").replace("様", "").isascii()
    kept = latex(frame(cell("样", 10)), unicode="true")
    assert "样 & 10.0" in kept
    assert "romanised" not in kept


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("sem (steps=3), 4/255 (a-b)", "sem (steps=3), 4/255 (a-b)"),
        ("rho_a 4/255", r"$\rho_a = 4/255$"),
        ("sem (rho_u=16/255, rho_a=1/255)", r"sem (rho\_u=16/255, rho\_a=1/255)"),
        ("the rho_a of it", r"the $\rho_a$ of it"),
        ("arrho_a", r"arrho\_a"),
        ("a--b", "a-{}-b"),
        ("±∞ −1", r"$\pm$$\infty$ $-$1"),
        ("Ü", r"\"{U}"),
    ],
)
def test_text_is_escaped(text: str, written: str) -> None:
    assert escape(latin(text)) == written


def test_a_long_name_may_be_broken_but_not_its_radius() -> None:
    assert breakable("file (path=/a/b)") == r"file (path=/\allowbreak{}a/\allowbreak{}b)"
    assert r"$\rho_a = 4/255$" in breakable("sem at rho_a 4/255,steps=5")
    assert breakable("x" * 40).count("allowbreak") == 2


def test_a_table_has_rules_a_caption_a_label_and_names_its_packages() -> None:
    text = latex(frame(cell("sem", 10, dataset="cifar10"), cell("em", 30, dataset="cifar10")))
    lines = text.splitlines()
    assert lines[0] == r"% needs \usepackage{array,booktabs,siunitx}"
    rules = [line for line in lines if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"\begin{tabular}{lS[table-format=2.1]}" in lines
    assert r"Method & {$\rho_a = 0$} \\" in lines
    assert r"SEM & 10.0 \\" in lines
    assert r"\label{tab:main-cifar10}" in lines
    caption = next(line for line in lines if line.startswith(r"\caption"))
    assert caption.startswith(r"\caption{Clean test accuracy (\%): CIFAR-10, Small CNN, smoke")
    assert "One seed" in caption


def test_labels_are_unique_and_name_what_tells_tables_apart(tmp_path: Path) -> None:
    found = frame(
        cell("sem", 10, dataset="cifar10"),
        cell("sem", 10, dataset="cifar10", learner="resnet18"),
        cell("sem", 10, dataset="npz:a"),
        cell("sem", 10, dataset="npz:á"),
    )
    text = latex(found, document="true", label="mine-")
    labels = re.findall(r"\\label{(.*)}", text)
    assert labels[:2] == ["mine-main-cifar10-small-cnn", "mine-main-cifar10-resnet-18"]
    assert len(set(labels)) == 4
    compiled(tmp_path, text)
    with pytest.raises(UserError, match="label='a}b' must consist of letters, digits"):
        latex(found, label="a}b")


def test_one_column_holds_what_fits_and_two_hold_the_rest(tmp_path: Path) -> None:
    radii = [f"{k}/255" for k in range(1, 9)]

    def table(columns: int) -> str:
        cells = [c for radius in radii[:columns] for c in seeds("sem", [12.0, 12.5], rho_a=radius)]
        return latex(frame(*cells), two_column="true", label=f"{columns}:")

    tables = [table(n) for n in (1, 3, 4, 6, 8)]
    assert [r"\begin{table*}" in text for text in tables] == [False, False, False, True, True]
    wide = latex(
        frame(*(c for d in ("none", *DEFENSES) for c in seeds("sem", [12.0, 12.5], defense=d))),
        "defenses",
        two_column="true",
    )
    # Twenty-two columns are wider than any page: they are set in blocks.
    assert wide.count(r"\begin{tabular}") >= 3
    assert wide.count(r"\caption") == 1
    paper(tmp_path, *tables, wide)


def test_long_names_and_reasons_are_broken_into_lines(tmp_path: Path) -> None:
    path = "/home/someone/projects/unlearnable/poisons/of/a/very/deep/folder/noise.safetensors"
    lost = {"status": "failed", "setting": "", "reason": f"cannot read {path}: {'x' * 70}"}
    found = frame(
        *near(f"file[path={path}]", 10, dataset=f"npz:{path}", status="done"),
        cell("sem", float("nan"), dataset=f"npz:{path}", **lost),
        cell("sem", float("nan"), dataset=f"npz:{path}", rho_a="4/255", **lost),
    )
    reports = ("main", "failures")
    paper(tmp_path, *(latex(found, report, two_column="true") for report in reports))
    alone(tmp_path, *(latex(found, report, document="true") for report in reports))


def test_a_document_is_the_tables_with_a_preamble() -> None:
    text = str(api.render(frame(cell("sem", 10)), "latex", document="true"))
    assert text.startswith("% needs")
    assert "\n\\documentclass{article}\n" in text
    assert text.rstrip().endswith(r"\end{document}")
    bare = str(api.render(frame(cell("sem", 10)), "latex"))
    assert body(text).strip() == bare.partition("\n")[2].strip()
