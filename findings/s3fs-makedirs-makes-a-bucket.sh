#!/usr/bin/env bash
# Making the folder of a file in a bucket makes the bucket, and not the folder.
#
# Expected: code for any file system of fsspec calls makedirs(FOLDER, exist_ok=True) before it writes. A
#           bucket has no folders, so that s3fs would do nothing, or say that the bucket is missing, as
#           its functions that read and write do.
# Happens:  if the bucket is missing, s3fs makes it, with default settings, and reports success. The
#           folder still does not exist. A typing error in the name of a bucket becomes a bucket of the
#           account, in which the results then lie, where the next write alone would have been refused.
# Versions: s3fs 2026.9.0 with fsspec 2026.9.0; moto 5.2.5 stands for the server.
# Matters:  nodes that exchange results through a URL (fsspec) take the one that the user has typed.
# Our code: calls makedirs for no object store, and lists the URL before anything is computed
#           (`Exchange.check` in unlearnable_bench/curation/exchange.py; tests/test_bucket.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile s3fs==2026.9.0 fsspec==2026.9.0 'moto[server]==5.2.5'

cd "$folder"
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
export AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
venv/bin/python - <<'PYTHON'
import logging
from importlib.metadata import version

import fsspec
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
system = fsspec.filesystem(
    "s3", endpoint_url="http://{}:{}".format(*server.get_host_and_port()), use_listings_cache=False
)


def buckets():
    return system.ls("")


def write():
    try:
        system.pipe_file("reslts/run/cells/1.json", b"{}")
    except FileNotFoundError as error:
        return f"refused ({error})"
    return "written"


print(f"s3fs {version('s3fs')}, fsspec {version('fsspec')}, moto {version('moto')}")
system.mkdir("results")  # the user's bucket
before = write()
print(f"a write into the missing bucket reslts: {before}; buckets: {buckets()}")
assert before.startswith("refused")
assert buckets() == ["results"]

system.makedirs("reslts/run/cells", exist_ok=True)
print(f"after makedirs of a folder in it: buckets: {buckets()}, ", end="")
print(f"the folder exists: {system.exists('reslts/run/cells')}")
assert buckets() == ["reslts", "results"]
assert not system.exists("reslts/run/cells")
assert write() == "written"
server.stop()
PYTHON
