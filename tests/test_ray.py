"""`--executor ray`, with two nodes of this machine."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from commands import QUICK, arrays, run_tiny
from faults.world import ALL
from held import held
from helpers import accuracies

from unlearnable_bench import UserError, load_records
from unlearnable_bench.executors.ray import LostWorkerError, _take, startable

STEPS = 100
HELD = held(STEPS, "if", "os.getpid()")
FAULTS = 12 if ALL else 2
ISOLATED = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


def can_isolate() -> bool:
    """Return whether this user may make a network namespace with a loopback interface."""
    try:
        return subprocess.run([*ISOLATED, "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(
    not all(map(find_spec, ("ray", "s3fs", "moto"))),
    reason="needs the extra [ray], s3fs and moto[server]",
)
@pytest.mark.skipif(
    not can_isolate(), reason="needs a network namespace: Ray listens on all addresses"
)
def test_a_plan_is_finished_though_nodes_and_processes_are_killed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    np.savez(tmp_path / "tiny.npz", **arrays())
    (tmp_path / "held.py").write_text(HELD)
    plan = ("--methods", "held", "--no-clean", "--seeds", "0-1", "--plugin", "held.py")
    words = [word for word in run_tiny(*plan) if word not in ("--device", "cpu")]
    command = [
        sys.executable, str(Path(__file__).parent / "ray_nodes.py"), str(FAULTS), *words,
        "--executor", "ray", "--set", "ray.gpus=0", "--set", "ray.cpus=1",
    ]  # fmt: skip
    # HOME: a token there would turn on the authentication of Ray.
    environment = os.environ | {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [*ISOLATED, *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60 + 120 * FAULTS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done: held, small-cnn, rho_a 0, seed 0: " in done.stdout
    for number in range(FAULTS):
        place = tmp_path / f"fault-{number}"
        frame = load_records(place / "out")
        assert sorted(frame["attack"]) == ["held", "held"]
        fault = json.loads((place / "killed.json").read_text())
        killed = [*map(str, fault["processes"])]
        made = [tuple(line.split()) for line in (place / "steps").read_text().splitlines()]
        # What a killed process had computed was computed again elsewhere, and nothing else was.
        again = {step for step, times in Counter(one[:2] for one in made).items() if times > 1}
        # With its command, Ray kills all processes of a task.
        if fault["kind"] != "command":
            assert again <= {one[:2] for one in made if one[2] in killed}, fault
        assert fault["stored"] == (2 if fault["store"] else 0)
        assert {one[:2] for one in made} == {(s, str(n)) for s in "01" for n in range(STEPS)}
        assert max(Counter(one[:2] for one in made).values()) <= 2
        assert accuracies(place / "out") == accuracies(tmp_path / "fault-0" / "out")
    record_property("faults", ["parts of Ray", FAULTS, FAULTS])


def test_the_first_cell_of_a_noise_makes_it_and_the_others_wait() -> None:
    noises = {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3", "f": "3"}
    # Noise 1 is there, 2 is lacking, and a task makes 3.
    assert startable([*noises], noises, {"2", "3"}, {"3"}) == ["a", "b", "c"]
    assert startable(["d", "e", "f"], noises, {"3"}, {"3"}) == ["d"]
    assert startable(["e", "f"], noises, set(), set()) == ["e", "f"]


def test_the_reason_of_a_lost_task_is_that_of_its_cause() -> None:
    class RayTaskError(Exception):
        cause = LostWorkerError("worker process was killed\nby a signal")

    def lost(error: Exception) -> str:
        ray, tally = MagicMock(), MagicMock()
        ray.exceptions.RayError = RayTaskError
        ray.get.side_effect = error
        _take(ray, None, "key", tally, lambda: None)
        return str(tally.lost.call_args[0][1])

    traceback = "ray::compute_cell() (pid=1)\nTraceback"
    assert lost(RayTaskError(traceback)) == "its Ray task was lost: worker process was killed"
    RayTaskError.cause = UserError("no such bucket")
    assert lost(RayTaskError(traceback)) == "no such bucket"
    assert lost(ValueError("x")) == "its Ray task was lost: x"


def test_a_plan_for_ray_without_ray_names_the_extra(tmp_path: Path) -> None:
    script = "import sys; sys.modules['ray'] = None; from unlearnable_bench.cli import main; main()"
    np.savez(tmp_path / "tiny.npz", **arrays())
    words = [word for word in QUICK if word not in ("--device", "cpu")]
    done = subprocess.run(
        [sys.executable, "-c", script, "run", *words, "--methods", "random", "--dataset",
         "npz:tiny.npz", "--executor", "ray", "--set", "ray.gpus=0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert "pip install 'unlearnable-bench[ray]'" in done.stderr.splitlines()[-1]
