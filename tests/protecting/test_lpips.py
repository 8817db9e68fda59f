"""LPIPS is measured if package and weights are there, and never downloads them."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from photo_files import save
from torchvision.models import AlexNet_Weights, alexnet

from unlearnable_bench import UserError, api
from unlearnable_bench.protecting.lpips import LPIPS

CONVOLUTIONS = (0, 3, 6, 8, 10)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch; a download would fail the test."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a download was tried")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Random weights in the cache under the name that torchvision gives to theirs."""
    with torch.device("meta"):
        shapes = {name: one.shape for name, one in alexnet().state_dict().items()}
    random = torch.Generator().manual_seed(0)
    state = {
        # The classifier, which LPIPS does not use, is stored as one number.
        name: torch.randn(shape, generator=random) * 0.05
        if name.startswith("features")
        else torch.zeros(1).expand(shape)
        for name, shape in shapes.items()
    }
    home.mkdir(parents=True)
    keep(state, home, monkeypatch)
    return state


def keep(content: object, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store a file under the name that torchvision gives to a download of it."""
    torch.save(content, home / "made.pth")
    digest = hashlib.sha256((home / "made.pth").read_bytes()).hexdigest()
    (home / "made.pth").rename(home / f"made-{digest[:8]}.pth")
    monkeypatch.setattr(AlexNet_Weights.DEFAULT.value, "url", f"https://x/made-{digest[:8]}.pth")


def formula(state: dict[str, torch.Tensor], before: np.ndarray, after: np.ndarray) -> float:
    """Return equation 1 of the LPIPS paper on pictures in [-1, 1], in float64."""
    linear = torch.load(
        Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth",
        map_location="cpu",
        weights_only=True,
    )
    sides = []
    for pixels in (before, after):
        x = torch.from_numpy(pixels).double().permute(2, 0, 1) / 127.5 - 1
        shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)
        scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)
        x = ((x - shift[:, None, None]) / scale[:, None, None])[None]
        layers = []
        for k, layer in enumerate(CONVOLUTIONS):
            if k in (1, 2):
                x = torch.nn.functional.max_pool2d(x, 3, 2)
            weight, bias = (state[f"features.{layer}.{one}"].double() for one in ("weight", "bias"))
            stride, padding = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))[k]
            x = torch.nn.functional.conv2d(x, weight, bias, stride, padding).relu()
            layers.append(x / x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-8))
        sides.append(layers)
    return sum(
        float(((a - b).square() * linear[f"lin{k}.model.1.weight"].double()).sum(1).mean())
        for k, (a, b) in enumerate(zip(*sides, strict=True))
    )


def test_it_is_the_papers_formula_on_values_from_minus_one_to_one(
    weights: dict[str, torch.Tensor],
) -> None:
    random = np.random.default_rng(0)
    before = random.integers(0, 256, (40, 52, 3), dtype=np.uint8)
    after = np.clip(before + random.integers(-30, 31, before.shape), 0, 255).astype(np.uint8)
    lpips = LPIPS()
    expected = formula(weights, before, after)
    assert expected > 1e-3
    assert lpips(before, after) == pytest.approx(expected, rel=1e-3)
    assert lpips(before, before) == 0
    # The second call does not average with the first.
    assert lpips(before, after) == pytest.approx(expected, rel=1e-3)
    assert lpips(before[:31, :31], after[:31, :31]) is not None
    assert lpips(before[:30], after[:30]) is None
    # Scaled to 1,024 pixels these have 30 and 31 rows.
    for rows, measured in ((60, None), (62, 0)):
        wide = np.zeros((rows, 2048, 3), np.uint8)
        assert lpips(wide, wide) == measured


@pytest.mark.usefixtures("weights")
def test_the_report_of_a_folder_has_it(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1"):
        save(tmp_path / "photos" / f"{name}.png", 40, 48)
    found = api.protect(tmp_path / "photos", tmp_path / "safe", device="cpu", check=False)
    assert found.measures.lpips
    assert f"<dt>LPIPS</dt><dd>{found.measures.lpips:.3f}</dd>" in found.page.read_text()
    assert f'"lpips": {found.measures.lpips}' in (found.page.parent / "report.json").read_text()


@pytest.mark.usefixtures("weights")
def test_pictures_that_are_too_small_are_named_as_the_reason(photos: Path) -> None:
    found = api.protect(photos, photos.parent / "safe", device="cpu", check=False)
    assert found.measures.lpips is None
    assert found.measures.no_lpips == "all pictures are too small for AlexNet"


def test_without_weights_the_report_names_the_command_that_gets_them(
    photos: Path, home: Path
) -> None:
    found = api.protect(photos, photos.parent / "safe", device="cpu", check=False)
    assert found.measures.lpips is None
    missing = found.measures.no_lpips
    assert missing.startswith(f"{home}/alexnet-owt-")
    assert missing.endswith('is missing; download it once: python -c "import torchvision; '
                            "torchvision.models.alexnet(weights='DEFAULT')\"")  # fmt: skip
    assert "LPIPS was not measured: " in found.page.read_text()
    assert not home.exists()


def test_another_file_under_their_name_is_not_loaded(
    weights: dict[str, torch.Tensor], home: Path
) -> None:
    assert weights
    (path,) = home.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"is damaged or another file \(SHA-256 .*; remove it, and"):
        LPIPS()


def test_a_file_that_holds_more_than_weights_is_not_unpickled(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(parents=True)
    keep({"features": Path()}, home, monkeypatch)
    with pytest.raises(UserError, match="holds more than weights"):
        LPIPS()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(UserError, match=r"pip install 'unlearnable-bench\[lpips\]'"):
        LPIPS()
