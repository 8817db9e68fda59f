#!/usr/bin/env bash
# safetensors 0.8 writes a transposed numpy array in another order, silently.
#
# Expected: save_file followed by load_file returns equal arrays, as it did up to 0.7, or raises an
#           error for an array that is not contiguous, as safetensors.torch does.
# Happens:  the bytes are written as they lie in memory, with the shape of the transposed array. A
#           transposed or Fortran-ordered array is read back with all values and a valid shape, but
#           in the wrong places. Known: github.com/safetensors/safetensors/issues/825 (open).
# Versions: safetensors 0.8.0; 0.7.0 is right.
# Matters:  images change between channels first and channels last by a transpose. A poison saved
#           like that would still be uint8 images of the right size. They are scrambled, a network
#           learns nothing from them, and the attack would look strong.
# Our code: calls numpy.ascontiguousarray on each array it saves (unlearnable_bench/results/store.py
#           and unlearnable_bench/results/samples.py), and checks the SHA-256 of a poison's pixels
#           when it reads them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for version in 0.7.0 0.8.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet --no-compile "safetensors==$version" numpy==2.4.6
  "$folder/$version/bin/python" -W error - "$folder/images.safetensors" <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

print("safetensors", safetensors.__version__)
channels_first = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
images = {
    "channels last": channels_first.transpose(0, 2, 3, 1),
    "Fortran order": np.asfortranarray(channels_first),
    "made contiguous": np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1)),
}
equal = {}
for name, array in images.items():
    save_file({"images": array}, sys.argv[1])
    read = load_file(sys.argv[1])["images"]
    assert read.shape == array.shape
    assert sorted(read.flat) == sorted(array.flat)
    equal[name] = bool((read == array).all())
    print(f"  {name}: first pixel written {array[0, 0, 0]}, read {read[0, 0, 0]}; equal: {equal[name]}")

kept = safetensors.__version__ == "0.7.0"
assert equal == {"channels last": kept, "Fortran order": kept, "made contiguous": True}, equal
PYTHON
done
