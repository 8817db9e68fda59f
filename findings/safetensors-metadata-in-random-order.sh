#!/usr/bin/env bash
# safetensors 0.8 writes the metadata of a file in another order each time.
#
# Expected: two files with the same tensors and the same metadata are the same bytes, as those
#           without metadata or with one entry are, whose tensors are sorted.
# Happens:  with two entries or more, their order changes from call to call, even in one process. The
#           files have the same size and content, and different SHA-256. With five entries, 50 saves
#           made 38 different files. Known: github.com/safetensors/safetensors/issues/584
#           (open).
# Versions: safetensors 0.8.0.
# Matters:  noise and weights are published with the SHA-256 of their file. Who makes them again
#           cannot tell by it that they are the same, and a store by content keeps each save anew.
# Our code: sorts the metadata of an exported file (unlearnable_bench/exporting/arrays.py), and knows
#           a poison by the SHA-256 of its pixels.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.1
"$folder/venv/bin/python" - <<'END'
import hashlib

import numpy as np
from safetensors.numpy import load, save

noise = {"noise": np.arange(12, dtype=np.float32), "labels": np.arange(4)}


def files(entries):
    metadata = {f"entry {k}": str(k) for k in range(entries)}
    made = [save(noise, metadata) for _ in range(50)]
    assert len({len(text) for text in made}) == 1
    assert all((load(text)["noise"] == noise["noise"]).all() for text in made)
    return len({hashlib.sha256(text).hexdigest() for text in made})


found = {entries: files(entries) for entries in (0, 1, 2, 5)}
for entries, count in found.items():
    print(f"{entries} entries of metadata: {count} different files of 50 saves")
assert found[0] == found[1] == 1, "files without metadata differ"
assert found[2] == 2 and found[5] > 5, "the order is no longer random"
END
echo "still there: equal content with several entries of metadata makes different files"
