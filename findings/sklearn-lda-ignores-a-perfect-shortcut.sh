#!/usr/bin/env bash
# scikit-learn's LDA gives no weight to pixels that are the same in all images of a class.
#
# Expected: a patch with one fixed pattern per class is the easiest feature to learn, so a linear
#           discriminant classifies by it, as logistic regression does.
# Happens:  LDA inverts the covariance within the classes and drops the directions without variance,
#           which are those of the patch. With the default solver, test accuracy is chance, without
#           a warning; if the patch varies by one level, it is 100 %. On class-wise noise without
#           images, solver="lsqr" has only zero weights and predicts class 0 for everything, also
#           with shrinkage="auto"; the default solver raises an IndexError.
# Versions: scikit-learn 1.9.1.
# Matters:  linear separability is taken as evidence that a poison is a shortcut. The clearest
#           shortcut, without variance within a class, is reported as none, and a variation by one
#           level turns chance into 100 %.
# Our code: does not use LDA. Deep feature reweighting fits a logistic regression
#           (`logistic_regression` in defenses/deep_feature_reweighting.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1

"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as LDA
from sklearn.linear_model import LogisticRegression

print("scikit-learn", sklearn.__version__)
CLASSES, PATCH = 10, 4 * 3  # the patch has 4 of the 16 pixels
rng = np.random.default_rng(0)
patterns = rng.integers(0, 256, (CLASSES, PATCH))


def images(per_class: int, jitter: int = 0):
    """Return random pixels with the pattern of the class in a patch, and the classes."""
    classes = np.repeat(np.arange(CLASSES), per_class)
    pixels = rng.integers(0, 256, (len(classes), 16 * 3)).astype(float)
    pixels[:, :PATCH] = patterns[classes]
    pixels[:, :PATCH] += rng.integers(-jitter, jitter + 1, (len(classes), PATCH))
    return pixels, classes


train, test, varied = images(200), images(50), images(200, jitter=1)
lda = LDA().fit(*train)
found = {
    "LDA": lda.score(*test),
    "LDA, patch varied by one level": LDA().fit(*varied).score(*test),
    "logistic regression": LogisticRegression(max_iter=1000).fit(*train).score(*test),
}
for name, accuracy in found.items():
    print(f"patch: {name}: test accuracy {accuracy:.1%}")
print(f"patch: largest weight of LDA: {np.abs(lda.coef_[:, :PATCH]).max():.0e}")
assert found["LDA"] < 0.2, found
assert np.abs(lda.coef_[:, :PATCH]).max() < 1e-10 < 1e-4 < np.abs(lda.coef_[:, PATCH:]).max()
assert found["LDA, patch varied by one level"] == 1, found
assert found["logistic regression"] == 1, found

classes = np.repeat(np.arange(CLASSES), 30)
noise = rng.integers(-8, 9, (CLASSES, 300)).astype(float)[classes]
for shrinkage in (None, "auto"):
    lda = LDA(solver="lsqr", shrinkage=shrinkage).fit(noise, classes)
    accuracy = lda.score(noise, classes)
    print(f"class-wise noise: lsqr, shrinkage {shrinkage}: training accuracy {accuracy:.1%}")
    assert accuracy == 0.1 and not lda.coef_.any() and not lda.predict(noise).any()
known = LogisticRegression().fit(noise, classes).score(noise, classes)
print(f"class-wise noise: logistic regression: training accuracy {known:.1%}")
assert known == 1
try:
    LDA().fit(noise, classes)
    refused = False
except IndexError as error:
    refused = True
    print("class-wise noise: default solver: IndexError:", error)
assert refused
PYTHON
