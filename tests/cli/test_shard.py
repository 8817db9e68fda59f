"""One noise generation by several processes: `--shard`."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Command, run_tiny

from unlearnable_bench.commands.executors import chosen_executor
from unlearnable_bench.errors import UserError
from unlearnable_bench.executors.shard import Shard
from unlearnable_bench.planning import registry

CARDS = """0, GPU-aaaa, NVIDIA H200, 4, 143771
1, GPU-bbbb, NVIDIA H200, 70000, 143771
2, GPU-cccc, NVIDIA H200, 4, 143771
"""
TINY = (
    "--no-clean", "--precision", "fp64", "--threads", "1", "--set", "small-cnn.width=4",
    "--set", "sem.steps=3", "--set", "sem.noise_steps=2", "--set", "sem.samples=2",
)  # fmt: skip

# SEM that saves each step, and whose second process dies in the third update.
MORTAL = '''
"""SEM that loses a process."""
import os
from dataclasses import dataclass
from pathlib import Path
from unlearnable_bench.attacks.sem import SEM

@dataclass(frozen=True, kw_only=True)
class Mortal(SEM):
    """SEM that loses a process."""

    def generate(self, images, harness):
        harness.checkpoint._interval = harness.checkpoint._due = 0.0
        mortal.append(harness.group is not None and not harness.group.leads)
        return super().generate(images, harness)

    def surrogate_loss(self, *arguments):
        updates.append(0)
        if mortal[-1] and len(updates) == 3:
            os.kill(os.getpid(), 9)
        return super().surrogate_loss(*arguments)

mortal, updates = [], []
'''


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in (folder / "cells").glob("*.json")]
    return {record["key"]: record for record in found}


def test_two_processes_give_the_record_of_one(ubench: Command, workplace: Path) -> None:
    result = ubench(
        *run_tiny("--methods", "sem,tap", "--set", "tap.steps=2", *TINY, "--shard", "2")
    )
    assert (result.code, result.err) == (
        0,
        "ubench: tap: made by one process; these methods do not divide their batches (--shard)\n",
    )
    assert "device    2 processes share divisible noise generations, each on CPU" in result.out
    assert ubench(*run_tiny("--methods", "sem", *TINY), "--out", "alone").code == 0
    (key, alone), shared = *records(workplace / "alone").items(), records(workplace / "out")
    assert shared[key]["poison"]["shards"] == 2
    assert "shards" not in alone["poison"]
    assert shared[key]["poison"]["sha256"] == alone["poison"]["sha256"]
    assert shared[key]["test_accuracy"] == alone["test_accuracy"]
    other = next(record for record in shared.values() if record["key"] != key)
    assert "shards" not in other["poison"]


def test_a_lost_process_ends_the_cell_with_one_line_and_loses_nothing(
    ubench: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "mortal.py").write_text(MORTAL)
    settings = [word.replace("sem.", "mortal.") for word in TINY]
    words = run_tiny("--methods", "mortal", *settings, "--plugin", "mortal.py")
    result = ubench(*words, "--shard", "2")
    assert result.code == 2
    reason = "process 2 of 2 was killed by SIGKILL (out of memory?); run the same command again to"
    assert result.err.count("\n") == 1
    assert f"seed 0: {reason} resume, also with another --shard" in result.err
    assert "0 cells computed" in result.out
    monkeypatch.setattr(registry.attacks, "_from_files", {})  # as in another process
    again = ubench(*words)
    assert (again.code, again.err) == (0, "")
    (record,) = records(workplace / "out").values()
    assert record["poison"]["resumed"]
    assert "shards" not in record["poison"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"shard": 2, "workers": 2}, "give one of --workers and --shard"),
        ({"shard": 2, "gpus": "all"}, "give one of --gpus and --shard"),
        ({"name": "slurm", "shard": 2}, "--shard does not fit --executor slurm"),
        ({"shard": 2, "device": "cuda:1"}, "--device cuda:1 does not fit --executor shard"),
    ],
)
def test_other_places_of_work_do_not_fit_shards(more: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        chosen_executor(more.pop("name", None), {}, **more)


def test_one_shard_is_this_process() -> None:
    assert chosen_executor(None, {}, shard=1) is None


@pytest.mark.parametrize("cards", [2, 3])
def test_shards_take_the_first_cards_that_are_free(
    cards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{CARDS}END\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if cards == 2:
        executor = chosen_executor(None, {}, shard=2)
        assert executor == Shard(cards=2)
        expected = "2 GPUs share divisible noise generations: 0 (NVIDIA H200), 2 (NVIDIA H200)"
        assert executor.described("CPU") == expected
    else:
        with pytest.raises(UserError, match="--shard 3 needs 3 GPUs that are not in use; here is"):
            chosen_executor(None, {}, shard=3)


def test_a_machine_without_gpus_is_refused_with_what_to_use(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert refused("run", "--methods", "sem", "--preset", "smoke", "--shard", "2") == (
        "ubench: --shard 2 needs 2 GPUs that are not in use; here is no GPU that nvidia-smi names; "
        "leave out --shard, or add --device cpu for processes on the CPU\n"
    )
