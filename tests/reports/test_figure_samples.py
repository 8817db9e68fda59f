"""Figures of what a folder keeps of a poison: its images and its noise."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_frames import cell, frame, lines, note, panels, several

from unlearnable_bench.errors import UserError
from unlearnable_bench.images import ImageSet
from unlearnable_bench.reports.images import Images, images_data, magnified
from unlearnable_bench.reports.noise import Noise, embedded, noise_data
from unlearnable_bench.results.samples import write_samples


@pytest.fixture(name="kept")
def _kept(tmp_path: Path) -> pd.DataFrame:
    """Return a frame of two methods whose images and noise a folder keeps, and one without."""
    random = np.random.default_rng(0)
    images = random.integers(40, 200, (20, 16, 16, 3)).astype(np.uint8)
    clean = ImageSet(images, np.arange(20) % 4, 4)
    for key, radius in (("a", 8), ("b", 20)):
        noise = random.integers(-radius, radius, images.shape, endpoint=True)
        noise[0, 0, 0, 0] = radius
        write_samples(tmp_path, key, clean, (images + noise).astype(np.uint8), "wxyz")
    usual = {"folder": str(tmp_path)}
    return frame(
        cell("clean", 90, poison="c", **usual),
        cell("sem", 1, poison="a", **usual),
        cell("em", 2, poison="none here", **usual),
        cell("sc", 3, poison="b", **usual),
    )


def test_images_show_clean_noise_and_poisoned_pixels(kept: pd.DataFrame) -> None:
    data = images_data(kept)
    assert data["method"].tolist() == ["SEM", "SC"]
    assert data["magnification"].tolist() == [
        127 // largest for largest in data["largest"].tolist()
    ]
    made = Images(count=3).render(kept)
    pictures = [np.asarray(ax.images[0].get_array()) for ax in made.axes]
    assert len(pictures) == 6
    clean, noise, poisoned = (picture[:, :16].astype(int) for picture in pictures[:3])
    factor = data["magnification"].iloc[0]
    assert (noise == 128 + factor * (poisoned - clean)).all()
    assert (pictures[3] == pictures[0]).all()
    labels = [ax.get_ylabel() for ax in made.axes]
    assert labels[0] == f"SEM\nx {factor}"
    assert "No images of: EM" in made.get_supxlabel()


def test_names_of_images_are_printed_to_their_end(kept: pd.DataFrame) -> None:
    inside = "noise_rho_a=4/255,perturbation=pgd,rho_a=2/255"
    label = f"sem[{inside},steps=300]"
    one = kept.assign(attack=kept["attack"].replace({"sem": label}))
    lacking = [
        cell(f"em[{inside},steps={k}]", 2, poison="none here", folder=kept["folder"][0])
        for k in range(4)
    ]
    made = Images().render(pd.concat([one, frame(*lacking).assign(key=list("wxyz"))]))
    names = [" ".join(ax.get_ylabel().split()) for ax in made.axes]
    assert names[0].startswith("SEM (noise_rho_a=4/255, perturbation=pgd, rho_a=2/255, steps=300)")
    assert "steps=3)" in made.get_supxlabel()


def test_noise_is_clipped_only_if_the_factor_is_set(kept: pd.DataFrame) -> None:
    noise = np.array([-8, 0, 8], np.int16)
    assert magnified(noise, 15).tolist() == [8, 128, 248]
    assert magnified(noise, 40).tolist() == [0, 128, 255]
    assert images_data(kept, magnify=40)["magnification"].tolist() == [40, 40]


@pytest.mark.parametrize("report", [Images(), Noise()])
def test_an_old_folder_without_samples_is_a_clear_error(report: Images | Noise) -> None:
    with pytest.raises(UserError, match=r"have no (images|noise) of poisons"):
        report.render(several())


def test_noise_is_projected_onto_its_two_main_directions(kept: pd.DataFrame) -> None:
    data = noise_data(kept, samples=8)
    assert data["method"].tolist() == ["SEM"] * 8 + ["SC"] * 8
    made = Noise(samples=8).render(kept)
    (ax,) = panels(made)
    drawn = lines(ax)
    points = data[["x", "y"]].itertuples(index=False, name=None)
    assert [*drawn["o"], *drawn["^"]] == list(points)
    assert note(made).endswith("No noise of: EM.")


def test_pca_finds_the_plane_that_points_lie_in() -> None:
    angle = np.linspace(0, 2 * np.pi, 9)[:-1]
    flat = np.zeros((8, 12))
    flat[:, 3], flat[:, 7] = 3 * np.cos(angle), np.sin(angle)
    points, shares = embedded(flat + 5.0, "pca")
    assert np.abs(points[:, 0]) == pytest.approx(np.abs(flat[:, 3]))
    assert np.abs(points[:, 1]) == pytest.approx(np.abs(flat[:, 7]))
    assert shares == pytest.approx((0.9, 0.1))


def test_equal_noises_are_one_point_and_too_few_an_error() -> None:
    # 7 / 255 is no binary fraction: the mean of equal values need not be that value.
    points, shares = embedded(np.full((5, 12), 7 / 255), "pca")
    assert not points.any()
    assert shares == (0, 0)
    with pytest.raises(UserError, match="pca needs at least 3 noise samples, got 2"):
        embedded(np.ones((2, 12)), "pca")


def test_t_sne_separates_two_clusters_and_repeats_itself() -> None:
    random = np.random.default_rng(0)
    flat = random.normal(size=(20, 12))
    flat[10:] += 50
    points, _ = embedded(flat, "tsne")
    middle = points[:10].mean(axis=0), points[10:].mean(axis=0)
    spread = max(np.ptp(points[:10], axis=0).max(), np.ptp(points[10:], axis=0).max())
    assert np.linalg.norm(middle[0] - middle[1]) > spread / 2
    assert np.array_equal(points, embedded(flat, "tsne")[0])
