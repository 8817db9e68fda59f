"""The table of image quality: how visible each method's noise is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._poisons import number, per_poison, poison_title, with_seeds
from unlearnable_bench.results.frame import QUALITY
from unlearnable_bench.results.samples import MEASURED_IMAGES
from unlearnable_bench.results.table import Column, Table

_COLUMNS = (
    Column("L∞ (1/255)", "linf", 1),
    Column("L2", "l2", 2),
    Column("PSNR (dB)", "psnr", 1),
    Column("SSIM", "ssim", 3),
)
_CAPTION = "Image quality of the poisons"
_NOTE = (
    f"L∞ and L2 are the largest of all images, PSNR and SSIM means of at most "
    f"{MEASURED_IMAGES:,} images. Higher PSNR and SSIM mean less visible noise."
)


@dataclass(frozen=True, kw_only=True)
class Quality(Report):
    """Measured L-infinity, L2, PSNR and SSIM of each method's poisoned images."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set and preset.

        Raises:
            UserError: no record has these numbers.
        """
        found = list(quality_tables(frame))
        if not found:
            raise UserError(
                "these records have no image quality (versions before 0.2 did not measure it); run "
                "the cells again with another --out"
            )
        return found


def quality_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for each data set and preset, of the methods whose quality was measured.

    Args:
        frame: from `load_records`.
    """
    if not {*QUALITY} <= {*frame.columns}:
        return
    for part, methods in per_poison(frame):
        rows = []
        for row, poisons in methods:
            measured = poisons.dropna(subset=[*QUALITY], how="all")
            keys = [key for found in measured["keys"] for key in found]
            if len(measured):
                entries = tuple(number(measured[kind], keys) for kind in QUALITY)
                rows.append(replace(row, entries=entries))
        if rows:
            table = Table("quality", _CAPTION, poison_title(part), _COLUMNS, tuple(rows))
            yield with_seeds(replace(table, notes=(_NOTE,)))
