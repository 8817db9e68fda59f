"""Progress in a notebook: one output, updated in place, and none elsewhere."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import arrays

from unlearnable_bench import make_plan, notebook, run


class ZMQInteractiveShell:
    """The class of IPython's shell in a kernel of Jupyter."""


class TerminalInteractiveShell:
    """That of `ipython` in a terminal."""


class Output:
    """What a notebook shows below a cell."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.displays = 0

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> "Output":
        assert raw
        assert display_id
        self.displays += 1
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.texts.append(data["text/plain"])


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    return kernel(monkeypatch, ZMQInteractiveShell())


def kernel(monkeypatch: pytest.MonkeyPatch, shell: Any) -> Output:
    output = Output()
    package, module = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: shell  # type: ignore[attr-defined]
    module.display = output.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return output


def run_small(folder: Path, **asked: Any) -> None:
    np.savez(folder / "tiny.npz", **arrays(32, 8))
    plan = make_plan(
        methods=["random"],
        dataset=f"npz:{folder / 'tiny.npz'}",
        preset="smoke",
        settings={"training.epochs": 1, "training.batch_size": 2},
    )
    run(plan, folder / "out", device="cpu", **asked)


def test_a_run_shows_one_line_and_its_end(output: Output, tmp_path: Path) -> None:
    run_small(tmp_path)
    assert output.displays == 1
    assert output.texts[0].startswith("clean, small-cnn, rho_a 0, seed 0: training: step 0 of 16")
    assert output.texts[-1] == "2 cells computed, 0 reused"
    run_small(tmp_path)
    assert output.texts[-1] == "0 cells computed, 2 reused"


def test_steps_are_shown_once_a_second_with_the_time_left(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(notebook, "time", SimpleNamespace(monotonic=lambda: now[0]))
    line = notebook.line()
    assert line is not None
    for _ in line.track("noise", 400, range(100, 400)):  # resumed at step 100
        now[0] += 0.25
    assert len(output.texts) == 75
    # At step 104, four steps took 1 s, and 296 are left.
    assert output.texts[:2] == [
        "noise: step 100 of 400",
        "noise: step 104 of 400, 1:14 left in this loop",
    ]


@pytest.mark.parametrize("shell", [None, TerminalInteractiveShell()])
def test_outside_notebooks_nothing_is_shown(
    shell: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = kernel(monkeypatch, shell)
    run_small(tmp_path)
    assert output.displays == 0
    assert capsys.readouterr() == ("", "")


def test_progress_of_the_users_own_comes_instead(output: Output, tmp_path: Path) -> None:
    labels = []

    class Labels:
        def track(self, label: str, total: int, steps: Any) -> Any:
            labels.append((label, total))
            yield from steps

    run_small(tmp_path, progress=Labels())
    assert ("random, small-cnn, rho_a 0, seed 0: training", 16) in labels
    assert output.displays == 0
