"""Two nodes of Ray, whose parts are killed at random moments; run by test_ray.py.

It runs in a network namespace of its own: Ray listens on all addresses, whatever address it is
given.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import s3fs
from bucket import SETTINGS, served
from ray.cluster_utils import Cluster

KINDS = ("node", "worker process", "Ray task", "command")
_SMALL = {"object_store_memory": 80_000_000}


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # ended
            continue
        if state not in "ZX":
            parents[int(stat.parent.name)] = int(parent)
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def steps() -> list[list[str]]:
    path = Path("steps")
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def workers(raylets: list[int]) -> list[int]:
    """Return the worker processes of ubench."""
    return [pid for raylet in raylets for pid in descendants(raylet) if _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    try:
        return b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


def disturb(
    cluster: Cluster, nodes: list[Any], start: Callable[[], "subprocess.Popen[bytes]"], kind: str
) -> list[int]:
    """Kill a part of a run, and wait for its end; return what was killed."""
    draw = random.Random(Path.cwd().name)
    run = start()
    wait_for(lambda: len({line[0] for line in steps()}) == 2, "two cells")
    time.sleep(draw.uniform(0, 3))
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    if kind == "node":
        killed = [raylets[1], *descendants(raylets[1])]
        assert any(line[2] in map(str, killed) for line in steps()), "the node computes nothing"
        cluster.worker_nodes.discard(nodes[1])
    elif kind == "command":
        killed = [run.pid]
    else:
        killed = [draw.choice(workers(raylets))]
        if kind == "Ray task":
            killed.append(_parent(killed[0]))
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    if kind == "command":
        assert run.wait() == -signal.SIGKILL
        wait_for(lambda: not workers(raylets), "the end of workers without their command")
        run = start()
    time.sleep(1)
    Path("release").touch()
    assert run.wait(150) == 0, kind
    if kind == "node":
        nodes[1] = cluster.add_node(num_cpus=1, **_SMALL)
        cluster.wait_for_nodes()
    return killed


def main() -> int:
    with served() as address:
        os.environ |= SETTINGS | {"AWS_ENDPOINT_URL": address}
        run_with_faults(int(sys.argv[1]), sys.argv[2:])
    return 0


def run_with_faults(count: int, words: list[str]) -> None:
    bucket = s3fs.S3FileSystem(use_listings_cache=False)
    bucket.mkdir("bucket")
    head = {"num_cpus": 0, "include_dashboard": False, **_SMALL}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=1, **_SMALL) for _ in range(2)]
        cluster.wait_for_nodes()
        command = [sys.executable, "-m", "unlearnable_bench", *words]
        command += ["--ray-address", cluster.address]
        top = Path.cwd()
        for number in range(count):
            place = top / f"fault-{number}"
            place.mkdir()
            for name in ("tiny.npz", "held.py"):
                (place / name).symlink_to(top / name)
            os.chdir(place)
            kind, store = KINDS[number % len(KINDS)], (number // len(KINDS) + number) % 2
            more = ["--set", f"ray.store=s3://bucket/{place.name}"] if store else []
            start, began = partial(subprocess.Popen, [*command, *more]), time.monotonic()
            killed = disturb(cluster, nodes, start, kind)
            seconds = round(time.monotonic() - began)
            stored = bucket.find(f"bucket/{place.name}/cells")
            about = {"kind": kind, "store": store, "processes": killed, "seconds": seconds}
            Path("killed.json").write_text(json.dumps(about | {"stored": len(stored)}))
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
