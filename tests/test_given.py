"""The public face for notebooks: plugins as classes or files, the default preset, public names."""

import linecache
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import arrays
from helpers import Pooled

import unlearnable_bench
from unlearnable_bench import Attack, Plan, Progress, Record, Summary, UserError, make_plan, run
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.defenses.cutmix import CutMix
from unlearnable_bench.planning import grid, registry
from unlearnable_bench.planning.registry import load_plugin_file
from unlearnable_bench.presets import default_preset
from unlearnable_bench.results.store import ResultsFolder

FILE = """
from dataclasses import dataclass
from unlearnable_bench import Attack, Defense, Poison, Radius, option

@dataclass(frozen=True, kw_only=True)
class MyNoise(Attack):
    surrogate = "none"
    level: int = option(3, "level of the noise")

    def generate(self, images, harness):
        return Poison.from_noise(images, 0 * images.images + self.level, Radius("8/255"))

class MyDefense(Defense):
    def prepare(self, images, harness):
        return images
"""


@pytest.fixture(autouse=True)
def _own_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for kind in registry.REGISTRIES.values():
            patch.setattr(kind, "_from_files", {})
        yield


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "tiny.npz", **arrays(32, 8))
    return f"npz:{tmp_path / 'tiny.npz'}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def keys(data: str, **asked: Any) -> list[str]:
    plan = make_plan(**{"methods": ["random"], "preset": "smoke", "dataset": data, **asked})
    return [cell.key for cell in plan.cells]


def cell_of_a_notebook(text: str, name: str) -> dict[str, Any]:
    """Run a cell as IPython does, whose source only `linecache` has; return its names."""
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    return names


def test_a_file_is_a_plugin_wherever_it_is_given(data: str, file: Path) -> None:
    given = keys(data, methods=[file], defenses=["none", file], settings={"my-noise.level": 5})
    assert given == keys(
        data, methods=[file], defenses=["none", file], settings={"my-noise.level": 5}
    )
    for kind in registry.REGISTRIES.values():
        kind._from_files.clear()
    load_plugin_file(file)
    names = {"methods": ["my-noise"], "defenses": ["none", "my-defense"]}
    assert given == keys(data, **names, settings={"my-noise.level": 5})


def test_an_edited_file_has_results_of_its_own(data: str, file: Path) -> None:
    first = keys(data, methods=[file], clean=False)
    file.write_text(FILE + "# edited\n")
    second = keys(data, methods=[file], clean=False)
    assert second != first
    file.write_text(FILE)
    assert keys(data, methods=[file], clean=False) == first


def test_a_class_of_the_package_is_its_name(data: str) -> None:
    classes = keys(data, methods=[SEM], defenses=[CutMix])
    assert classes == keys(data, methods=["sem"], defenses=["cutmix"])


def test_a_class_of_a_file_is_the_plugin_of_the_file(data: str, file: Path) -> None:
    load_plugin_file(file)
    by_name = keys(data, methods=["my-noise"])
    cls = registry.attacks.get("my-noise")
    assert keys(data, methods=[cls]) == by_name
    registry.attacks._from_files.clear()
    assert keys(data, methods=[cls]) == by_name  # registered by its source


def test_a_class_of_a_notebook_is_known_by_its_cell(data: str) -> None:
    cls = cell_of_a_notebook(FILE, "<cell 1>")["MyNoise"]
    first = keys(data, methods=[cls], clean=False)
    same = cell_of_a_notebook(FILE, "<cell 2>")["MyNoise"]
    assert keys(data, methods=[same], clean=False) == first
    edited = cell_of_a_notebook(FILE.replace("+ self", "- self"), "<cell 3>")["MyNoise"]
    assert keys(data, methods=[edited], clean=False) != first


def test_a_learner_and_a_surrogate_may_be_classes(data: str, tmp_path: Path) -> None:
    plan = make_plan(
        methods=["em"],
        learners=[Pooled],
        surrogate=Pooled,
        dataset=data,
        preset="smoke",
        settings={"em.rounds": 1, "em.noise_steps": 1, "training.epochs": 1},
    )
    assert {cell.learner.name for cell in plan.cells} == {"pooled"}
    summary = run(plan, tmp_path / "out", device="cpu")
    assert (summary.computed, summary.failures) == (2, ())
    records = ResultsFolder(tmp_path / "out").records()
    assert {record.learner for record in records} == {"pooled"}


def test_what_is_no_such_plugin_is_refused(data: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SEM is not a subclass of Defense"):
        keys(data, defenses=[SEM])
    with pytest.raises(UserError, match=r"mine\.py defines no learner"):
        keys(data, learners=[file])
    with pytest.raises(UserError, match=r"gone\.py: no such file"):
        keys(data, methods=[tmp_path / "gone.py"])
    taken = cell_of_a_notebook(FILE.replace("MyNoise", "Sem"), "<cell 4>")["Sem"]
    with pytest.raises(UserError, match="class Sem: attack 'sem' already exists; rename"):
        keys(data, methods=[taken])
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(FILE, "<stdin>", "exec"), names)  # typed at a prompt
    with pytest.raises(UserError, match=r"source of MyNoise is not available.* save it in a file"):
        keys(data, methods=[names["MyNoise"]])
    with pytest.raises(UserError, match=r"methods=\.\.\.\) takes str, got 3 of type int"):
        keys(data, methods=[3])
    for name in ("surrogate", "dataset", "preset", "precision"):
        with pytest.raises(UserError, match=rf"{name}=\.\.\.\) takes str, got 3 of type int"):
            make_plan(**{"methods": ["random"], "dataset": data, name: 3})
    file.write_text(
        FILE.replace("MyDefense(Defense)", "Two(Attack)").replace("prepare", "generate")
    )
    assert registry.attacks.names_from("") == []
    with pytest.raises(UserError, match="is not a subclass of Dataset"):
        keys(data, dataset=SEM)


@pytest.mark.parametrize(("cuda", "expected"), [(False, "smoke"), (True, "fast")])
def test_the_default_preset_is_that_of_the_command_line(
    cuda: bool, expected: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "default_preset", default_preset)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert make_plan(methods=["random"], dataset=data).preset_label == expected
    assert default_preset("cuda" if cuda else "cpu") == expected


def test_the_public_names_are_there_and_need_no_torch() -> None:
    assert unlearnable_bench.__version__ == version("unlearnable-bench")
    assert {Plan, Summary, Record, Progress} <= {
        getattr(unlearnable_bench, name) for name in unlearnable_bench.__all__ if name[0] != "_"
    }
    code = (
        "import sys, unlearnable_bench as u; u.Plan, u.Record, u.__version__, u.Progress\n"
        "assert not [m for m in sys.modules if m.startswith('torch._inductor')]\n"
        "from unlearnable_bench import *\n"
        "print(__version__, Summary.__name__)"
    )
    light = "import sys, unlearnable_bench as u; u.__version__; assert 'torch' not in sys.modules"
    for text in (code, light):
        subprocess.run([sys.executable, "-c", text], check=True, capture_output=True)


def test_records_name_the_versions_of_what_decodes_and_stores(data: str, tmp_path: Path) -> None:
    plan = make_plan(
        methods=["random"],
        clean=False,
        dataset=data,
        preset="smoke",
        settings={"training.epochs": 1},
    )
    run(plan, tmp_path / "out", device="cpu")
    [record] = ResultsFolder(tmp_path / "out").records()
    for name in ("pillow", "opencv-python-headless", "scipy", "safetensors", "torch"):
        assert record.environment["packages"][name] == version(name)


def test_an_attack_that_is_incomplete_is_named_by_its_class(data: str) -> None:
    class Unfinished(Attack):
        def helper(self) -> None: ...

    with pytest.raises(UserError, match="class Unfinished: define generate in Unfinished"):
        keys(data, methods=[Unfinished])
