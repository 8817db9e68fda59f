#!/usr/bin/env bash
# `ray.init` replaces a handler of SIGTERM that the program has installed, without a word.
#
# Expected: a library that is imported and started leaves the signal handlers of the program alone.
# Happens:  `ray.init` installs a handler of its own, which ends the program by sys.exit; the one that
#           was there before is not called. A handler installed after `ray.init` is.
# Versions: Ray 2.60.0, Python 3.11, Linux.
# Matters:  a driver that saves its state when a batch system ends it (Slurm, Kubernetes: SIGTERM)
#           stops doing so once it starts Ray.
# Our code: puts the handlers back after `ray.init` (unlearnable_bench/executors/ray.py).
#
# Ray listens on all addresses, whatever it is told: this runs in a network namespace of its own,
# for which `unshare` needs root.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cat >"$folder/show.py" <<'PYTHON'
import os
import signal
import sys

import ray


def save(number, frame):
    print("state saved", flush=True)


signal.signal(signal.SIGTERM, save)
ray.init(num_cpus=1, include_dashboard=False, object_store_memory=80_000_000, logging_level="error")
print("ray", ray.__version__, "handler kept:", signal.getsignal(signal.SIGTERM) is save)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    print("the program goes on")
except SystemExit as error:
    print("SystemExit of Ray's handler:", error.code)
    sys.exit(0)
sys.exit("the handler of the program was called")
PYTHON
HOME=$folder RAY_USAGE_STATS_ENABLED=0 unshare --net sh -c \
  'ip link set lo up && exec "$0" "$1"' "$folder/env/bin/python" "$folder/show.py"
