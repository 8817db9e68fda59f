#!/usr/bin/env bash
# A soft lock of a killed process is held until the parent of that process collects its exit status.
#
# Expected: SoftFileLock recognises by the process number in its file that the owner was killed, and
#           the next process takes the lock, as it does with locks of the system.
# Happens:  It asks the system whether the number exists. A killed process whose parent has not
#           waited for it (a zombie) still exists, so the lock stays taken for as long as the parent
#           lives and does not wait. After `wait` the next attempt takes it at once.
# Versions: filelock 4.3.1, Python 3.11, Linux.
# Matters:  a launcher that starts workers, loses one and only polls the files of the others waits
#           for ever on a file system without flock (Lustre or NFS with that option).
# Our code: uses flock where there is one, soft locks only elsewhere; its tests reap the process that
#           they kill (tests/faults/test_sharing.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check filelock==4.3.1
cat >"$folder/show.py" <<'PYTHON'
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version

from filelock import SoftFileLock, Timeout

path = sys.argv[1]
owner = f"from filelock import SoftFileLock; lock = SoftFileLock({path!r}); lock.acquire(); print(1, flush=True); input()"


def taken() -> bool:
    lock = SoftFileLock(path)
    try:
        lock.acquire(timeout=3)
    except Timeout:
        return False
    lock.release()
    return True


print("filelock", version("filelock"))
child = subprocess.Popen(
    [sys.executable, "-c", owner], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
child.stdout.readline()
alive = taken()
os.kill(child.pid, signal.SIGKILL)
time.sleep(0.5)
zombie = taken()
child.wait()
reaped = taken()
print(f"taken from a living owner: {alive}, a killed one: {zombie}, a killed and reaped one: {reaped}")
sys.exit((alive, zombie, reaped) != (False, False, True))
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder/lock"
