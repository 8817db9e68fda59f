"""How far protected pictures are from the originals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.protecting.lpips import LPIPS
from unlearnable_bench.protecting.pictures import read

_MEASURED = 100  # pictures: SSIM of a photo of 12 megapixels takes seconds
_WINDOW = 7  # pixels: side of the SSIM window, scikit-image's default


@dataclass(frozen=True)
class Measures:
    """Distance between the originals and the protected pictures, in their own size.

    Attributes:
        largest: largest change of a value in levels of 1/255.
        psnr: mean peak signal-to-noise ratio in dB; None: no picture changed.
        ssim: mean structural similarity; None: all pictures are smaller than its window.
        lpips: mean LPIPS (AlexNet), 0 for equal pictures; None: not measured.
        no_lpips: why LPIPS was not measured, and the command that changes it; empty: it was.
        pictures: number of pictures that were measured, evenly spread.
        bytes: size of all protected files.
    """

    largest: int
    psnr: float | None
    ssim: float | None
    lpips: float | None
    no_lpips: str
    pictures: int
    bytes: int


def measured(pairs: Sequence[tuple[Path, Path]], show: Progress) -> Measures:
    """Measure written pictures.

    Args:
        pairs: original and protected file of each picture.
        show: display of the loop.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # noqa: PLC0415

    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _MEASURED)).round())
    lpips, no_lpips = _lpips()
    largest, ratios, similarities, distances = 0, [], [], []
    for k in show.track("measuring", len(chosen), range(len(chosen))):
        # uint8, as read: other types have another range, or wrap round.
        before, after = (read(file).pixels for file in pairs[int(chosen[k])])
        change = int(np.abs(after.astype(np.int16) - before).max())
        largest = max(largest, change)
        if change:
            ratios.append(peak_signal_noise_ratio(before, after, data_range=255))
        if min(before.shape[:2]) >= _WINDOW:
            similarities.append(
                structural_similarity(before, after, channel_axis=2, data_range=255)
            )
        distance = lpips(before, after) if lpips else None
        if distance is not None:
            distances.append(distance)
    if lpips and not distances:
        no_lpips = "all pictures are too small for AlexNet"
    return Measures(
        largest,
        float(np.mean(ratios)) if ratios else None,
        float(np.mean(similarities)) if similarities else None,
        float(np.mean(distances)) if distances else None,
        no_lpips,
        len(chosen),
        sum(after.stat().st_size for _, after in pairs),
    )


def _lpips() -> tuple[LPIPS | None, str]:
    """Return the metric, or why there is no metric."""
    try:
        return LPIPS(), ""
    except UserError as error:
        return None, str(error)
