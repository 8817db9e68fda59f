#!/usr/bin/env bash
# REM's noise on one and on two GPUs, in turn: bash benchmarks/h200/shard.sh FOLDER [OPTIONS]
#
# Times 300 warm steps of REM's official settings in the preset `fast` (CIFAR-10's size, batch 128), twice
# on one GPU and twice on two, and prints milliseconds per step and the ratio. Random images: the time
# does not depend on them. Needs two GPUs, no data and about 15 minutes on H200s. OPTIONS are those of
# `ubench run`; on a CPU, as a trial: --device cpu --set rem.samples=1 --set rem.noise_steps=1
# --set rem.attack_steps=1 --surrogate small-cnn --learners small-cnn
set -euo pipefail

folder=${1:?usage: bash benchmarks/h200/shard.sh FOLDER [OPTIONS]}
mkdir -p "$folder"

# 1,280 images: the extraction after the steps is 10 batches.
python3 - "$folder/images.npz" <<'END'
import sys

import numpy as np

random = np.random.default_rng(0)
arrays = {"class_names": np.array([f"class {label}" for label in range(10)])}
for split, count in (("train", 1280), ("test", 100)):
    arrays[f"x_{split}"] = random.integers(256, size=(count, 32, 32, 3)).astype(np.uint8)
    arrays[f"y_{split}"] = np.arange(count) % 10
np.savez(sys.argv[1], **arrays)
END

made() { # number of GPUs, seed, then options of `ubench run`
  ubench run --dataset "npz:$folder/images.npz" --preset fast --methods rem --no-clean --seeds "$2" \
    --set rem.steps=303 --set training.epochs=1 --out "$folder/on-$1" "${@:3}"
}

for seed in 0 1; do
  made 1 "$seed" --device cuda:0 "${@:2}"
  made 2 "$seed" --shard 2 "${@:2}"
done

python3 - "$folder" <<'END'
import json
import sys
from pathlib import Path

# Three steps and three batches of the extraction are warm-up, which records count apart.
TIMED = 300 + 7
seconds = {}
for gpus in (1, 2):
    cells = (Path(sys.argv[1]) / f"on-{gpus}" / "cells").glob("*.json")
    records = sorted((json.loads(cell.read_text()) for cell in cells), key=lambda one: one["seed"])
    assert [record["poison"].get("shards", 1) for record in records] == [gpus, gpus]
    seconds[gpus] = [record["poison"]["seconds"] for record in records]
    steps = ", ".join(f"{1000 * one / TIMED:.1f}" for one in seconds[gpus])
    print(f"{gpus} GPU{'s' if gpus > 1 else ''}: {steps} ms per step")
ratios = [two / one for one, two in zip(seconds[1], seconds[2], strict=True)]
print(f"ratio: {', '.join(f'{ratio:.3f}' for ratio in ratios)} (wanted: at most 0.65)")
END
