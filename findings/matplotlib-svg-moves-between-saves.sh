#!/usr/bin/env bash
# Saving one matplotlib figure twice gives two pictures if its layout is "constrained".
#
# Expected: a figure that nobody touches is saved as the same SVG each time, once
#           svg.hashsalt is set and the date is left out.
# Happens:  the constrained layout is solved again at each save, starting from where the last one
#           left the axes. With a legend outside the axes the axes move by some points between the
#           first and the second save. One draw followed by set_layout_engine("none") makes all
#           saves equal.
# Versions: matplotlib 3.11.2.
# Matters:  a benchmark writes a figure as PDF, PNG and SVG. The three should show the same picture,
#           and a repeated report should give the same bytes, so that a diff shows real changes.
# Our code: lays a figure out once and then removes the layout engine
#           (`done` in reports/_figure.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile matplotlib==3.11.2 numpy==2.4.6

MPLCONFIGDIR="$folder" "$folder/venv/bin/python" -W error - <<'PYTHON'
import hashlib
import io

import matplotlib
from matplotlib.figure import Figure

matplotlib.rcParams["svg.hashsalt"] = "fixed"


def figure():
    made = Figure((3, 2), layout="constrained")
    axes = made.add_subplot()
    (line,) = axes.plot([1, 2])
    axes.set_xlabel("radius")
    made.legend([line], ["method"], loc="outside lower center")
    return made


def save(made):
    file = io.BytesIO()
    made.savefig(file, format="svg", metadata={"Date": None})
    right = made.axes[0].get_position().x1 * made.get_figwidth() * 72
    return hashlib.sha256(file.getvalue()).hexdigest()[:8], right


def saves(made):
    found = [save(made) for _ in range(3)]
    for digest, right in found:
        print(f"  SHA-256 {digest}..., right edge of the axes at {right:.2f} pt")
    return found


print("matplotlib", matplotlib.__version__)
print("constrained layout, saved three times:")
moving = saves(figure())
print("the same figure made and saved once, twice over:")
first, second = save(figure()), save(figure())
print(f"  SHA-256 {first[0]}... and {second[0]}...")
print("drawn once, then without a layout engine, saved three times:")
still = figure()
still.draw_without_rendering()
still.set_layout_engine("none")
fixed = saves(still)

assert first == second == moving[0]
assert moving[0][0] != moving[1][0]
assert abs(moving[0][1] - moving[1][1]) > 1
assert len(set(fixed)) == 1
PYTHON
