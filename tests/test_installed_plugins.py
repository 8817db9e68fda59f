"""The code of an installed plugin is part of the keys of its results."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unlearnable_bench.planning import registry
from unlearnable_bench.planning.grid import make_plan

PLUGIN = """
from dataclasses import dataclass
import numpy as np
from unlearnable_bench import Attack, Poison, Radius
{more}

@dataclass(frozen=True, kw_only=True)
class Shift(Attack):
    '''The same shift of all values.'''

    surrogate = "none"

    def generate(self, images, harness):
        return Poison.from_noise(images, np.full(images.images.shape, 4), Radius("4/255"))
"""


class Installed:
    """A distribution in a folder on the path, as `pip install -e` leaves it."""

    def __init__(self, root: Path, module: str) -> None:
        self.root = root
        self.module = module
        self.info = root / "shift_noise-1.0.dist-info"
        self.write("shift_noise-1.0.dist-info/METADATA", "Name: shift-noise\nVersion: 1.0\n")
        points = f"[unlearnable_bench.attacks]\nshift = {module}:Shift\n"
        self.write("shift_noise-1.0.dist-info/entry_points.txt", points)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def key(self) -> str:
        """Return the key of the poison in what would be a new process."""
        top = self.module.partition(".")[0]
        for name in [name for name in sys.modules if name.partition(".")[0] == top]:
            del sys.modules[name]
        importlib.invalidate_caches()
        registry.entry_points.cache_clear()
        plan = make_plan(methods=["shift"], clean=False, settings={"shapes.train": "20"})
        return plan.cells[0].poison.key


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit in the same second is seen
    yield tmp_path
    registry.entry_points.cache_clear()


def test_an_edit_of_an_installed_module_changes_its_key_and_undoing_it_the_old_key(
    site: Path,
) -> None:
    installed = Installed(site, "shift_noise")
    installed.write("shift_noise.py", PLUGIN.format(more=""))
    first = installed.key()
    assert installed.key() == first
    installed.write("shift_noise.py", PLUGIN.format(more="# edited"))
    assert installed.key() != first
    installed.write("shift_noise.py", PLUGIN.format(more=""))
    assert installed.key() == first


@pytest.mark.parametrize("module", ["shifts.methods.shift", "lab.shifts.methods.shift"])
def test_an_edit_of_any_module_of_the_package_changes_the_key(site: Path, module: str) -> None:
    """`lab` is a namespace package, which other distributions may share."""
    installed = Installed(site, module)
    top = module.removesuffix(".methods.shift").replace(".", "/")
    installed.write(f"{top}/__init__.py", "")
    installed.write(f"{top}/levels.py", "LEVELS = 4\n")
    installed.write(f"{top}/methods/__init__.py", "")
    installed.write(f"{top}/methods/shift.py", PLUGIN.format(more="from ..levels import LEVELS"))
    first = installed.key()
    installed.write(f"{top}/README.md", "no code\n")
    installed.write(f"{top}/.ipynb_checkpoints/levels-checkpoint.py", "LEVELS = 3\n")
    installed.write("lab/others/code.py", "")
    assert installed.key() == first
    installed.write(f"{top}/levels.py", "LEVELS = 5\n")
    assert installed.key() != first


def test_an_edit_of_a_second_module_of_the_distribution_changes_the_key(site: Path) -> None:
    installed = Installed(site, "shift_noise")
    installed.write("shift_noise.py", PLUGIN.format(more="import shift_levels"))
    installed.write("shift_levels.py", "LEVELS = 4\n")
    installed.write("shift_noise-1.0.dist-info/top_level.txt", "shift_levels\nshift_noise\njson\n")
    first = installed.key()
    installed.write("shift_levels.py", "LEVELS = 5\n")
    assert installed.key() != first


def test_another_version_of_the_distribution_has_another_key(site: Path) -> None:
    installed = Installed(site, "shift_noise")
    installed.write("shift_noise.py", PLUGIN.format(more=""))
    first = installed.key()
    installed.write("shift_noise-1.0.dist-info/METADATA", "Name: shift-noise\nVersion: 1.1\n")
    assert installed.key() != first


def test_built_in_plugins_keep_the_keys_that_they_had() -> None:
    """Keys of version 0.2.0."""
    plan = make_plan(methods=["sem"], defenses=["jpeg+cutmix"], settings={"shapes.train": "20"})
    assert [cell.key[:12] for cell in plan.cells] == ["8935035e2eec", "7f612ca0ed84"]
