#!/usr/bin/env bash
# Makes the measurements of this folder again: bash benchmarks/measure.sh FOLDER STUDY...
#
#   bench      the fast path next to eager PyTorch: bench.json
#   growth     how cost grows: growth.json and growth.png
#   fast       methods and defenses in the preset `fast`
#   paper      the cells of the preset `paper` that `fast` is compared with
#   methods    the methods of 2022 to 2026 under adversarial training, and all methods under defenses;
#              METHODS=ops,ar bash benchmarks/measure.sh FOLDER methods measures some of them
#   precision  SEM's noise made in bf16 and in fp32, then trained on alike with two seeds; and how far
#              noise of other seeds lies apart
#   presets    `fast` and `paper` on the same noises, two of each method:
#              ubench compare FOLDER/cifar10-both --presets fast,paper
#   poisons    16 images of each method's poison, for a picture
#   main       methods at five radii of adversarial training, two noises of the older ones
#   rem        the same of REM, whose noise takes 37 minutes on one H200
#   arms       SEM with each perturbation of its noise phase, 1,500 of 5,000 updates, three noises
#   steps      SEM with 1 to 20 descent steps of the noise, and with other step sizes and samples
#   shares     EM and SEM for a part of the images, next to training without these
#   transfer   noise of ResNet-18 on other learners
#   cifar100   EM, TAP, NTGA, SC and SEM on CIFAR-100 at two radii
#
# The studies of cells resume where they were interrupted, and several GPUs may work on one FOLDER:
# CUDA_VISIBLE_DEVICES=1 bash benchmarks/measure.sh FOLDER paper. EXTRA=--dry-run prints the plans. Of a
# results folder, this one stores cells/, plans/ and ubench.json, and strips/ of the poisons.
set -euo pipefail

new=ops,ar,cuda,pil,tue,mi-ue,sep,entf,aue,aap,gue,dune,hypo,asr,em-ops,class-random
radii=0,2/255,4/255,6/255,8/255

bench() {
  ubench bench --json >"$folder/bench.json"
}

growth() {
  ubench bench --growth --json --figure "$folder/growth.png" >"$folder/growth.json"
}

cells() { # DATASET-NAME, a folder, then options of `ubench run`
  # shellcheck disable=SC2086
  ubench run --dataset "${1%%-*}" --out "$folder/$1" "${@:2}" ${EXTRA:-}
}

fast() {
  local defenses=none,grayscale,jpeg,cutout,cutmix,mixup,ueraser-lite,orthogonal-projection
  cells cifar10-fast --preset fast --methods random,sc,em,tap,ntga,rem,sem --rho-a 0,4/255
  cells cifar10-fast --preset fast --methods em,sem --no-clean --defenses "$defenses"
}

paper() {
  cells cifar10-paper --preset paper --methods em,sem --rho-a 0,4/255
}

precision() {
  local kind
  for kind in bf16 fp32; do
    # Only the noise is used: the cell is as short as possible.
    cells "cifar10-$kind" --preset fast --precision "$kind" --methods sem --no-clean \
      --set sem.steps=1500 --set training.epochs=1
    cp "$folder/cifar10-$kind"/poisons/*.safetensors "$folder/$kind.safetensors"
  done
  (cd "$folder" && folder=. cells cifar10-precision --preset fast --no-clean \
    --methods file:bf16.safetensors,file:fp32.safetensors --rho-a 0,4/255 --seeds 0,1)
  cells cifar10-precision --preset fast --no-clean --methods sem --set sem.steps=1500 \
    --rho-a 4/255 --seeds 1,2,3
}

methods() {
  local defenses
  cells cifar10-methods --preset fast --methods "${METHODS:-$new}" --rho-a 0,4/255,8/255
  # D-VAE trains its own networks for each poison: last, and apart.
  for defenses in none,grayscale,jpeg,coin,cutmix d-vae; do
    cells cifar10-methods --preset fast --methods "${METHODS:-$new,em,tap,ntga,sc,sem}" \
      --defenses "$defenses"
  done
  # REM's whole noise takes 37 minutes.
  [ -n "${METHODS:-}" ] ||
    cells cifar10-methods --preset fast --methods rem --set rem.steps=1500 \
      --defenses none,grayscale,jpeg,coin,cutmix,d-vae
}

presets() {
  local preset
  for preset in fast paper; do
    cells cifar10-both --preset "$preset" --methods em,tap,ntga,sc,sem --noise-seeds 0,1 \
      --defenses none,grayscale
    cells cifar10-both --preset "$preset" --methods em,tap,sem --noise-seeds 0,1 --rho-a 4/255
  done
  # REM's whole noise takes 37 minutes; here both presets must only have the same.
  for preset in fast paper; do
    cells cifar10-both --preset "$preset" --methods rem --set rem.steps=500 --noise-seeds 0,1 \
      --defenses none,grayscale
  done
}

poisons() {
  # Only the noise is used: the cells are as short as possible.
  local short=(--preset fast --no-clean --set training.epochs=1)
  cells cifar10-poisons "${short[@]}" --methods random,sc,em,tap,ntga
  cells cifar10-poisons "${short[@]}" --methods rem,sem --set rem.steps=240 --set sem.steps=500
}

main() {
  cells cifar10-main --preset fast --methods random,em,tap,ntga,sc,sem --noise-seeds 0,1 \
    --rho-a "$radii"
  cells cifar10-main --preset fast --methods "$new" --no-clean --rho-a "$radii"
}

rem() {
  cells cifar10-main --preset fast --methods rem --no-clean --noise-seeds 0,1 --rho-a "$radii"
}

arms() {
  cells cifar10-arms --preset fast --methods sem --noise-seeds 0,1,2 --rho-a 0,4/255 \
    --set sem.perturbation=pgd,none,uniform,gaussian --set sem.steps=1500
}

steps() {
  cells cifar10-steps --preset fast --methods sem --set sem.noise_steps=1,2,5,10,20 --rho-a 4/255
  cells cifar10-steps --preset fast --methods sem --set sem.samples=1,2,5,10 --rho-a 4/255
  cells cifar10-steps --preset fast --methods sem --set sem.alpha_u=0.4/255,0.8/255,1.6/255,3.2/255 \
    --rho-a 4/255
}

shares() {
  cells cifar10-shares --preset fast --methods em,sem --protect 0.2,0.4,0.6,0.8 \
    --rho-a 0,4/255
}

transfer() {
  cells cifar10-transfer --preset fast --methods em,sem --rho-a 0,4/255 \
    --learners vgg16-bn,densenet121,wrn-34-10,vit-small,mlp2,mlp3,lenet5
}

cifar100() {
  cells cifar100-main --preset fast --methods em,tap,ntga,sc,sem --rho-a 0,4/255
}

studies=$(declare -F | cut -d' ' -f3 | grep -vx cells)
if [ $# -lt 2 ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
for study in "${@:2}"; do
  if ! grep -qx "$study" <<<"$studies"; then
    echo "measure.sh: unknown study '$study'; there are" $studies >&2
    exit 2
  fi
done
mkdir -p "$1"
folder=$(cd "$1" && pwd)
for study in "${@:2}"; do
  "$study"
done
