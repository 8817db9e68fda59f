"""A name in capitals, with other punctuation, or of another benchmark leads to the right one."""

from pathlib import Path

import pytest

from unlearnable_bench import UserError
from unlearnable_bench.errors import unknown
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.other_names import _OTHER


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("attacks", "SEM", "did you mean 'sem'?"),
        ("attacks", "Rem", "did you mean 'rem'?"),
        ("attacks", "LSP", "write sc;"),
        ("attacks", "lsp", "write sc;"),
        ("attacks", "ap", "write tap;"),
        ("attacks", "Error-Min", "write em;"),
        ("attacks", "error-max", "write tap with --set tap.untargeted=true;"),
        ("attacks", "runs/noise.NPZ", "write file:runs/noise.NPZ;"),
        ("attacks", "tap.zip", "write file:tap.zip;"),
        ("attacks", "perturbation.pt", "write file:perturbation.pt;"),
        ("datasets", "MedMNIST", "write npz:FILE;"),
        ("defenses", "JPEG-compression", "write jpeg;"),
        ("defenses", "Cut-Mix", "did you mean 'cutmix'?"),
        ("defenses", "AT", "write --rho-a 4/255, without a defense;"),
        ("learners", "ResNet-18", "did you mean 'resnet18'?"),
        ("learners", "WideResNet-34-10", "write wrn-34-10;"),
        ("datasets", "CIFAR-10", "did you mean 'cifar10'?"),
        ("datasets", "mine.npz", "write npz:mine.npz;"),
    ],
)
def test_the_error_names_what_to_write(kind: str, name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        registry.REGISTRIES[kind].get(name)
    assert str(caught.value).startswith(
        f"unknown {registry.REGISTRIES[kind].kind} {name!r}; {hint} available: "
    )


def test_a_folder_as_a_data_set_is_written_with_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    with pytest.raises(UserError, match="write folder:pictures;"):
        registry.datasets.get("pictures")


def test_every_other_name_leads_to_a_registered_one_and_is_none_itself() -> None:
    for registered in registry.REGISTRIES.values():
        for name, instead in _OTHER.get(registered.kind, {}).items():
            with pytest.raises(UserError, match="write "):
                registered.get(name)
            first = instead.split(",")[0].split()[0].partition(":")[0]
            assert first == "--rho-a" or first in registered.names()


def test_a_name_without_letters_has_no_hint() -> None:
    assert str(unknown("row", "--", ["a-b", "+"])) == "unknown row '--'; available: +, a-b"
