"""What a shell offers when a value is half typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unlearnable_bench.commands.completion import names_of
from unlearnable_bench.planning import registry
from unlearnable_bench.presets import preset_names

PROGRAM = """
import json, sys
from unlearnable_bench.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = ("torch", "numpy", "pandas", "scipy", "sklearn", "cv2")
print(json.dumps([name for name in heavy if name in sys.modules]), file=sys.stderr)
"""


def bash(line: str) -> list[str]:
    """Return what bash gets for a line; a word that the cursor is in comes last."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return ask({"_UBENCH_COMPLETE": "complete_bash", **asked}).split()


def ask(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stderr.splitlines()[-1]) == []  # no press of the key waits for torch
    return done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ubench run --methods se", ["sem", "sep"]),
        ("ubench run --methods em,sem,re", ["em,sem,rem"]),
        ("ubench run --defenses jpeg,cutm", ["jpeg,cutmix"]),
        ("ubench run --defenses jpeg+cut", ["jpeg+cutmix", "jpeg+cutout"]),
        ("ubench run --learners resnet18,vgg", ["resnet18,vgg16-bn"]),
        ("ubench run --surrogate vi", ["vit-small"]),
        ("ubench run --dataset cifar", ["cifar10", "cifar100"]),
        ("ubench run --preset p", ["paper"]),
        ("ubench run --precision fp", ["fp32", "fp64"]),
        ("ubench correlate --method r", ["rem"]),
        ("ubench report out --report heat", ["heat-map"]),
        ("ubench report out --format la", ["latex"]),
        ("ubench report out --methods em,ta", ["em,tap"]),
        ("ubench list de", ["defenses"]),
        ("ubench data import sv", ["svhn"]),
        ("ubench run --methods nothing", []),
    ],
)
def test_bash_is_offered_values(line: str, expected: list[str]) -> None:
    assert bash(line) == expected


def test_zsh_and_fish_are_offered_what_a_name_means() -> None:
    line = {"_TYPER_COMPLETE_ARGS": "ubench run --methods sem,ta"}
    zsh = ask({"_UBENCH_COMPLETE": "complete_zsh", **line})
    assert '"sem,tap":"Targeted adversarial' in zsh
    fish = ask(
        {"_UBENCH_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args", **line}
    )
    assert fish.startswith("sem,tap\tTargeted adversarial")


def values(kind: str, incomplete: str, separators: str = "") -> list[str]:
    return [value for value, _ in names_of(kind, separators)(incomplete)]


@pytest.mark.parametrize("kind", list(registry.REGISTRIES))
def test_every_name_is_offered(kind: str) -> None:
    offered = [value.rstrip(":") for value in values(kind, "")]
    assert offered == registry.REGISTRIES[kind].names()


def test_every_preset_is_offered_with_its_text() -> None:
    assert [name for name, text in names_of("presets")("") if text] == preset_names()


def test_a_name_in_the_list_is_not_offered_again() -> None:
    assert values("defenses", "cutmix,cut", ",+") == ["cutmix,cutout"]
    assert values("defenses", "jpeg,cutmix+cut", ",+") == ["jpeg,cutmix+cutout"]
    assert values("defenses", "cutmix,jpeg+cut", ",+") == [
        "cutmix,jpeg+cutmix",
        "cutmix,jpeg+cutout",
    ]
    assert values("attacks", "sem,sep,se", ",") == []


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("noise.npy", "new.npz", ".hidden", "runs/noise.npy"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.usefixtures("files")
def test_a_path_follows_a_colon() -> None:
    assert values("attacks", "file:n", ",") == ["file:new.npz", "file:noise.npy"]
    assert values("attacks", "sem,file:no", ",") == ["sem,file:noise.npy"]
    assert values("attacks", "ours=file:ru", ",") == ["ours=file:runs/"]
    assert values("attacks", "file:runs/", ",") == ["file:runs/noise.npy"]
    assert values("attacks", "file:./r", ",") == ["file:./runs/"]
    assert values("attacks", "file:~/no", ",") == ["file:~/noise.npy"]
    assert values("attacks", "file:.h", ",") == ["file:.hidden"]
    assert values("attacks", "file:gone/", ",") == []
    assert values("datasets", "unknown:n") == []
    assert values("learners", "vit-small:p", ",") == ["vit-small:pretrained="]
    assert values("learners", "vit-small:pretrained=runs/", ",") == [
        "vit-small:pretrained=runs/noise.npy"
    ]


def test_a_name_that_needs_a_path_ends_in_a_colon(files: Path) -> None:
    assert {v for v in values("datasets", "") if v.endswith(":")} == {
        "folder:", "hf:", "imagenet-subset:", "npz:", "tfds:", "tiny-imagenet:",
        "webdataset:",
    }  # fmt: skip
    # A shell would put a space behind a single candidate, where the path must follow.
    assert values("datasets", "np") == ["npz:new.npz", "npz:noise.npy", "npz:runs/"]
    for path in sorted(files.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert values("datasets", "np") == ["npz:"]


def test_names_of_others_are_offered_without_importing_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[unlearnable_bench.attacks]\nthine = broken_package:Thine\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert bash("ubench run --methods th") == ["thine"]
