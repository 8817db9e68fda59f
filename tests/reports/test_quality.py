"""Report `quality`: how far the poisoned images are from the clean ones."""

import math

import pytest
from report_cells import cell, frame
from table_views import headings, means, texts

from unlearnable_bench.reports.quality import quality_tables


def test_image_quality_is_averaged_over_poisons_and_leaves_out_what_was_not_measured() -> None:
    measured = {"linf": 8.0, "l2": 1.25, "psnr": 32.0, "ssim": 0.95}
    nothing = dict.fromkeys(measured, math.nan)
    (table,) = quality_tables(
        frame(
            cell("clean", 95, **(nothing | {"linf": 0.0})),
            cell("sem", 10, **measured),
            cell("sem", 10, rho_a="4/255", **measured),
            cell("sem", 10, seed=1, **(measured | {"psnr": 34.0})),
            cell("em", 20, **nothing),
        )
    )
    assert headings(table) == ["L∞ (1/255)", "L2", "PSNR (dB)", "SSIM"]
    assert means(table) == {"SEM": [8, 1.25, 33, pytest.approx(0.95)]}
    assert texts(table)["SEM"][-2:] == ["33.0 ± 1.4", "0.950 ± 0.000"]
    assert table.notes[0].startswith("L∞ and L2 are the largest of all images, PSNR and SSIM means")
    assert not list(quality_tables(frame(cell("sem", 10))))
