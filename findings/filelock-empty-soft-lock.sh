#!/usr/bin/env bash
# filelock 4.3 keeps an empty soft lock for ever, which 3.29 to 4.0 took over after two seconds.
#
# Expected: a soft lock whose process was killed after it made the file and before it wrote its
#           number into it ends by itself, as one with the number of an ended process does.
# Happens:  4.3.1 takes an empty file for the lock of a version before 3.24, which wrote nothing, and
#           waits, however old it is. 4.0.12 takes it over, and so do 3.29 and 3.32; 3.24 and 3.28
#           wait. A file with other text than a record is taken over by both after two seconds.
# Versions: filelock 4.0.12 and 4.3.1, Python 3.11, Linux.
# Matters:  the moment is short, but a cluster that kills many jobs meets it: on file systems without
#           flock the next job waits until somebody removes the file, and an update of filelock
#           brings this back to who had seen it go away.
# Our code: writes the record of a process that cannot exist into an empty marker that is 30 s old,
#           so that filelock takes it over (unlearnable_bench/storage/locks.py), and requires
#           filelock 3.24, of which on every holder writes a record.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/show.py" <<'PYTHON'
import os
import sys
import time
from importlib.metadata import version

from filelock import SoftFileLock, Timeout


def taken(text: str) -> bool:
    path = os.path.join(sys.argv[1], "lock")
    with open(path, "w") as file:
        file.write(text)
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    lock = SoftFileLock(path)
    try:
        lock.acquire(timeout=5)
    except Timeout:
        os.unlink(path)
        return False
    lock.release()
    return True


found = taken(""), taken("unfinished")
print(f"filelock {version('filelock')}: taken over if empty: {found[0]}, with other text: {found[1]}")
sys.exit(found != (sys.argv[2] == "taken", True))
PYTHON
for case in "4.0.12 taken" "4.3.1 held"; do
  read -r number expected <<<"$case"
  python3 -m venv "$folder/$number"
  "$folder/$number/bin/pip" install --quiet --disable-pip-version-check "filelock==$number"
  "$folder/$number/bin/python" "$folder/show.py" "$folder" "$expected"
done
echo "still there: the newer version waits for an empty lock of an hour ago"
