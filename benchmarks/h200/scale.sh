#!/usr/bin/env bash
# The same cells on 1, 2, 4 and 8 GPUs of this host, in turn: bash benchmarks/h200/scale.sh FOLDER
#
# Clean, EM and SEM at five radii and two seeds (30 cells), schedules cut to a quarter, in the preset
# `fast`. Prints wall seconds, the share of ideal (if one GPU is measured), and the idle seconds of
# each GPU: those in which nvidia-smi shows at most 5 % of load. Kernels are compiled before, in a
# small run. An interrupted run that resumes has no wall time that compares: begin again in another
# folder.
#
# COUNTS="1 4" chooses the numbers of GPUs; CPU=1 is a trial with as many processes on a CPU.
set -euo pipefail

folder=${1:?usage: bash benchmarks/h200/scale.sh FOLDER}
mkdir -p "$folder"
base=(--methods em,sem)
whole=(--rho-a 0,2/255,4/255,6/255,8/255 --seeds 0,1)
if [ -n "${CPU:-}" ]; then
  base+=(--preset smoke --device cpu)
  short=(--set em.rounds=1 --set sem.steps=2 --set training.epochs=1)
  whole+=("${short[@]}")
  counts=${COUNTS:-1 2}
  load() { printf '0, 100 %%\n'; }
else
  base+=(--dataset cifar10 --preset fast)
  short=(--set em.rounds=1 --set sem.steps=8 --set training.epochs=1 --set adversarial.epochs=1)
  whole+=(--set sem.steps=500 --set training.epochs=7 --set adversarial.epochs=6)
  cards=$(nvidia-smi --list-gpus | wc -l)
  counts=${COUNTS:-$(for n in 1 2 4 8; do [ "$n" -gt "$cards" ] || echo "$n"; done)}
  load() { nvidia-smi --query-gpu=index,utilization.gpu --format=csv,noheader; }
fi

computed() { # number of GPUs, folder, then options of `ubench run`
  if [ -n "${CPU:-}" ]; then
    ubench run "${base[@]}" --workers "$1" --out "$2" "${@:3}"
  else
    CUDA_VISIBLE_DEVICES=$(seq -s, 0 $(($1 - 1))) ubench run "${base[@]}" --gpus all --out "$2" "${@:3}"
  fi
}

computed "${counts##*[[:space:]]}" "$folder/before" --rho-a 0,4/255 "${short[@]}"
for count in $counts; do
  while :; do
    load
    sleep 1
  done >"$folder/load-$count.csv" &
  sampling=$!
  trap 'kill "$sampling" 2>/dev/null || true' EXIT
  began=$(date +%s.%N)
  computed "$count" "$folder/on-$count" "${whole[@]}"
  ended=$(date +%s.%N)
  kill "$sampling"
  echo "$count $began $ended" >>"$folder/times"
done

python3 - "$folder" <<'END'
import sys
from collections import defaultdict
from pathlib import Path

folder = Path(sys.argv[1])
alone = None
for line in (folder / "times").read_text().splitlines():
    text, began, ended = line.split()
    count, wall = int(text), float(ended) - float(began)
    alone = wall if count == 1 else alone
    idle = defaultdict(int)
    for sample in (folder / f"load-{count}.csv").read_text().splitlines():
        card, load = sample.split(", ")
        if int(card) < count:
            idle[card] += float(load.split()[0]) <= 5
    seconds = ", ".join(str(idle[card]) for card in sorted(idle, key=int))
    share = f"share {alone / (count * wall):.2f}, " if alone else ""
    print(f"GPUs: {count}, wall {wall:.0f} s, {share}idle {seconds} s")
END
