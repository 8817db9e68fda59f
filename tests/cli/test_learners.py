"""Trained learners that a run keeps, and the command that lists them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command, run_tiny
from helpers import make_harness, random_images
from safetensors.torch import load_file
from torch import nn

from unlearnable_bench import Learner
from unlearnable_bench.harness.layers import without_streams
from unlearnable_bench.harness.network import Network
from unlearnable_bench.learners.small_cnn import SmallCNN
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.training import accuracy

CLEAN = run_tiny("--methods", "clean")


def the_record() -> Record:
    (record,) = ResultsFolder(Path("out")).records()
    return record


def accuracy_on_tiny(network: nn.Module) -> float:
    with np.load("tiny.npz") as arrays:
        images = torch.tensor(arrays["x_test"]).permute(0, 3, 1, 2)
        labels = torch.tensor(arrays["y_test"], dtype=torch.int64)
    return accuracy(Network(network, bf16=False), images, labels)


def test_a_kept_learner_has_the_accuracy_of_its_record(ubench: Command) -> None:
    assert ubench(*CLEAN, "--keep-learners").code == 0
    record = the_record()
    network = SmallCNN().build(classes=4, size=16)
    network.load_state_dict(load_file(f"out/learners/{record.key}.safetensors"))
    assert accuracy_on_tiny(network) == record.test_accuracy
    assert record.test_accuracy > 25  # beyond chance: the weights matter


def test_learners_are_kept_only_if_asked_for_and_no_key_changes(
    ubench: Command, caplog: pytest.LogCaptureFixture
) -> None:
    ubench(*CLEAN)
    before = the_record()
    assert not Path("out/learners").exists()
    again = ubench(*CLEAN, "--keep-learners")
    assert "0 cells computed, 1 reused" in again.out
    (warning,) = caplog.messages
    assert warning == (
        "ubench: 1 cell was finished without --keep-learners and has no kept learner; to train it "
        "again, move its record out of out/cells (`ubench learners out` prints the keys)"
    )
    assert the_record() == before
    listed = ubench("learners", "out").out
    assert f"1 finished cell without a kept learner: {before.key};" in listed
    Path(f"out/cells/{before.key}.json").rename("moved.json")
    assert "1 cell computed" in ubench(*CLEAN, "--keep-learners").out
    assert the_record().test_accuracy == before.test_accuracy
    assert "0 cells computed" in ubench(*CLEAN, "--keep-learners").out
    assert len(caplog.messages) == 1


def test_kept_learners_are_listed_with_the_keys_of_their_cells(ubench: Command) -> None:
    ubench(*run_tiny("--methods", "random", "--rho-a", "0,2/255"), "--keep-learners")
    out = ubench("learners", "out").out
    entries = json.loads(ubench("learners", "out", "--json").out)
    assert len(entries) == 4
    for entry in entries:
        assert Path(entry["file"]).stat().st_size == entry["bytes"]
        row = next(line for line in out.splitlines() if entry["key"] in line)
        for shown in (entry["attack"], entry["rho_a"], f"{entry['test_accuracy']:.1f}"):
            assert f" {shown} " in row
    assert "4 learners: out/learners/KEY.safetensors" in out
    assert "defense" not in out  # all alike


def test_a_damaged_learner_is_named_and_left_out(ubench: Command) -> None:
    ubench(*CLEAN, "--keep-learners")
    path = Path(f"out/learners/{the_record().key}.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = ubench("learners", "out")
    assert result.code == 2
    damage = f"{path} is damaged (its content does not match its checksum); it is left out"
    assert result.err == f"ubench: {damage}\n"
    assert "1 finished cell without a kept learner" in result.out
    assert path.read_bytes() == content


def test_a_folder_without_results_is_refused(refused: Callable[..., str], ubench: Command) -> None:
    assert "is not a results folder" in refused("learners", "somewhere")
    assert "2 finished cells without a kept learner" in ubench("learners", "results").out


@dataclass(frozen=True, kw_only=True)
class Dropping(Learner):
    """A linear layer after dropout."""

    def build(self, classes: int, size: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * size**2, classes))


def test_a_kept_learner_holds_no_state_of_random_streams() -> None:
    model = make_harness(learner=Dropping()).network(random_images())
    assert "network.1.draws" in model.state_dict()
    assert [*without_streams(model.network)] == ["2.weight", "2.bias"]
    Dropping().build(3, 8).load_state_dict(without_streams(model.network))


def test_a_plan_file_does_not_say_what_is_kept(refused: Callable[..., str]) -> None:
    Path("grid.toml").write_text('methods = "clean"\nkeep-learners = true\n')
    line = refused("run", "grid.toml")
    assert "keep-learners is not part of a plan; give --keep-learners on the command line" in line


def test_the_written_plan_is_run_with_the_same_switch(ubench: Command) -> None:
    result = ubench(*CLEAN, "--keep-learners", "--dry-run", "--write", "grid.toml")
    assert "run it: ubench run grid.toml --out out --device cpu --keep-learners\n" in result.out
    assert "keep" not in Path("grid.toml").read_text()
