#!/usr/bin/env bash
# The PSNR of scikit-image for the same pixels is 12, 54, 151 or 343 dB, by the integer type.
#
# Expected: pixels of 0 to 255 give the same PSNR in any integer type, or an error that asks for the
#           data range, as float images of 0 to 255 do.
# Happens:  the range of an integer image is taken to be the largest value of its type. A change by
#           64 of 255 in each pixel has 12 dB as uint8, 54 dB as int16 and 343 dB as int64, where it
#           looks invisible. There is no warning; structural_similarity does warn.
# Versions: scikit-image 0.26.0.
# Matters:  the difference of two uint8 images needs a wider type, so noise is often computed in
#           int16, and numpy makes int64 of Python's integers. The PSNR stands in papers as evidence
#           that the noise is imperceptible, and such a mistake is in favour of the authors.
# Our code: measures uint8 images and passes data_range=255 each time (`measure_quality` in
#           unlearnable_bench/results/samples.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-image==0.26.0 numpy==2.4.6 scipy==1.17.1

"$folder/venv/bin/python" -W error - <<'PYTHON'
import math

import numpy as np
import skimage
from skimage.metrics import peak_signal_noise_ratio

print("scikit-image", skimage.__version__)
rng = np.random.default_rng(0)
clean = rng.integers(64, 192, (32, 32, 3))
changed = clean + 64 * rng.choice([-1, 1], clean.shape)
found = {}
for kind in (np.uint8, np.int16, np.int32, np.int64):
    pair = clean.astype(kind), changed.astype(kind)
    found[kind] = peak_signal_noise_ratio(*pair)
    stated = peak_signal_noise_ratio(*pair, data_range=255)
    print(f"{kind.__name__:6} {found[kind]:6.2f} dB; with data_range=255 {stated:.2f} dB")
    assert math.isclose(stated, 20 * math.log10(255 / 64))
    assert math.isclose(found[kind], 20 * math.log10(np.iinfo(kind).max / 64))
try:
    peak_signal_noise_ratio(clean.astype(float), changed.astype(float))
    refused = False
except ValueError as error:
    refused = True
    print("float64", error)
assert refused
PYTHON
