#!/usr/bin/env bash
# scikit-learn's PCA of equal points reports NaN, or that rounding error explains all variance.
#
# Expected: points that are all equal have no variance: shares of 0, or an error.
# Happens:  if their mean is exact, PCA divides 0 by 0 inside scikit-learn: the shares are NaN, with
#           a RuntimeWarning about a "divide" that names no cause. If the same points are given in
#           units of 1/255, their mean is rounded, and the first component "explains" 100 % of a
#           variance of about 1e-30, without a warning.
# Versions: scikit-learn 1.9.1, numpy 2.4.6.
# Matters:  class-wise noise is equal for all images of a class, and universal noise for all
#           images. A scatter plot of such noise would be a cloud of rounding errors under an axis
#           that says "100 % of the variance".
# Our code: returns zeros for noises that are all equal, and does not call PCA
#           (`embedded` in reports/noise.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1

OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import sklearn
from sklearn.decomposition import PCA

print("scikit-learn", sklearn.__version__)
levels = np.tile(np.random.default_rng(0).integers(-8, 9, 48), (100, 1)).astype(np.float64)


def shares(points):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pca = PCA(2, svd_solver="full").fit(points)
    told = [str(warning.message) for warning in caught]
    variance = float(pca.explained_variance_[0])
    print(f"  variance {variance:.1e}, shares {pca.explained_variance_ratio_}, warnings {told}")
    return pca.explained_variance_ratio_, variance, told


print("100 equal points, in levels:")
exact, _, told = shares(levels)
print("the same points, in units of the pixel range (levels / 255):")
rounded, variance, silent = shares(levels / 255)

assert np.isnan(exact).all()
assert len(told) == 1
assert "divide" in told[0]
assert rounded[0] > 0.99
assert 0 < variance < 1e-28
assert silent == []
PYTHON
