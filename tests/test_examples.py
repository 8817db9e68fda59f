"""The example packages are installed and used as a stranger's would be."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from helpers import make_harness, random_images

from unlearnable_bench import Radius
from unlearnable_bench.results.store import ResultsFolder

EXAMPLES = Path(__file__).parent.parent / "examples"
MAIN = "from unlearnable_bench.cli import main; main()"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which both packages are installed; the examples stay untouched."""
    folder = tmp_path_factory.mktemp("examples")
    copies = [
        str(shutil.copytree(EXAMPLES / name, folder / name))
        for name in ("attack_plugin", "defense_plugin")
    ]
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run([*command, *copies], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def ubench(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-c", MAIN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_installed_plugins_are_listed_with_options(environment: dict[str, str]) -> None:
    attacks = json.loads(ubench(environment, "list", "attacks", "--json"))
    (classwise,) = [entry for entry in attacks if entry["name"] == "classwise"]
    assert [option["name"] for option in classwise["options"]] == ["rho_u", "cell"]
    assert "grain" in ubench(environment, "list", "defenses")


def test_installed_plugins_run_like_built_in_ones(
    environment: dict[str, str], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(120) % 4
    images = 60 * labels[:, None, None, None] + random.normal(40, 20, (120, 16, 16, 3))
    pixels = np.clip(images, 0, 255).astype(np.uint8)
    names = np.array(list("abcd"))
    np.savez(
        tmp_path / "tiny.npz",
        x_train=pixels,
        y_train=labels,
        x_test=pixels[:40],
        y_test=labels[:40],
        class_names=names,
    )
    out = ubench(
        environment,
        *("run", "--methods", "classwise", "--defenses", "none,grain"),
        *("--preset", "smoke", "--device", "cpu", "--dataset", f"npz:{tmp_path / 'tiny.npz'}"),
        *("--rho-u", "4/255", "--set", "training.epochs=1", "--set", "grain.std=0.1"),
        *("--out", str(tmp_path / "out")),
    )
    records = {(r.attack, r.defense): r for r in ResultsFolder(tmp_path / "out").records()}
    assert records.keys() == {
        (attack, defense)
        for attack in ("clean", "classwise")
        for defense in ("none", "grain[std=0.1]")
    }
    assert "grain[std=0.1]" in out
    noisy = records["classwise", "none"]
    assert str(noisy.rho_u) == "4/255"
    assert noisy.poison["quality"]["linf"] == 4


def test_the_noise_of_a_class_is_one_pattern_of_full_size() -> None:
    spec = spec_from_file_location("classwise", EXAMPLES / "attack_plugin" / "ubench_classwise.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    images = random_images(120)
    images = images.replaced(images.images // 2 + 64)  # nothing is clipped
    attack = module.Classwise(rho_u=Radius("4/255"))
    poisoned = attack.generate(images, make_harness()).images
    noise = poisoned.astype(int) - images.images
    assert (np.abs(noise) == 4).all()
    of_class = noise[images.labels == 2]
    assert (of_class == of_class[0]).all()


@pytest.mark.parametrize(
    "module", ["attack_plugin/ubench_classwise.py", "defense_plugin/ubench_grain.py"]
)
def test_an_example_fits_on_a_slide(module: str) -> None:
    assert len((EXAMPLES / module).read_text().splitlines()) <= 35
