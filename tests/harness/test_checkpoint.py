"""What a resumed run could not restore is refused before it is lost."""

from pathlib import Path

import pytest
import torch
from helpers import Interrupting, Interruption, make_harness
from torch import nn

from unlearnable_bench import UserError
from unlearnable_bench.harness import sgd
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.progress import Progress, Silent


def test_a_loop_within_a_loop_is_refused() -> None:
    harness = make_harness()
    for _ in harness.loop("epochs", 2):
        assert list(harness.loop("batches", 3)) == [0, 1, 2]
        break
    with pytest.raises(UserError, match="the loop 'batches' begins a second time"):
        list(harness.loop("batches", 3))


def test_a_second_keep_is_refused(tmp_path: Path) -> None:
    harness = make_harness()
    harness.checkpoint = Checkpoint(tmp_path / "state.safetensors")
    harness.keep(w=torch.zeros(1))
    with pytest.raises(UserError, match="`keep` is called a second time"):
        harness.keep(v=torch.zeros(1))


@pytest.mark.parametrize("before", [2, 5])
def test_streams_go_on_and_a_loop_left_by_break_does_not_begin_again(
    tmp_path: Path, before: int
) -> None:
    def total(checkpoint: Checkpoint, progress: Progress) -> float:
        harness = make_harness()
        harness.checkpoint, harness.progress = checkpoint, progress
        random, other = harness.random("steps"), harness.random("named too")
        sums = torch.zeros(2)
        harness.keep(sums=sums, other=other)
        for step in harness.loop("until enough", 9):
            sums[0] += random.uniform(1)[0]
            if step == 3:
                break
        for _ in harness.loop("then", 8):
            sums[1] += random.uniform(1)[0] + other.uniform(1)[0]
        return float(sums.sum())

    whole = total(Checkpoint(None), Silent())
    path = tmp_path / "state.safetensors"
    label = "until enough" if before == 2 else "then"
    with pytest.raises(Interruption):
        total(Checkpoint(path, interval=0), Interrupting(label, before))
    assert path.exists()
    assert total(Checkpoint(path, interval=0), Silent()) == whole


def test_an_optimizer_without_its_state_is_refused(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    kept = [sgd(network, lr=0.1), sgd(network, lr=0.1, momentum=0.0)]
    kept.append(torch.optim.SGD(network.parameters(), lr=0.1))
    later: list[torch.optim.Optimizer] = [torch.optim.Adam(network.parameters())]
    later.append(torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9))
    for optimizer in later:
        harness = make_harness()
        harness.checkpoint = Checkpoint(tmp_path / "state.safetensors")
        with pytest.raises(UserError, match=f"{type(optimizer).__name__} has no state to keep yet"):
            harness.keep(optimizer=optimizer)
        network(torch.zeros(1, 2)).sum().backward()
        optimizer.step()
        kept.append(optimizer)
    for optimizer in kept:
        make_harness().keep(optimizer=optimizer)


def test_what_cannot_be_changed_in_place_is_refused() -> None:
    with pytest.raises(UserError, match=r"keep\(best=\.\.\.\) got float; .* as a tensor"):
        make_harness().keep(best=0.0)  # type: ignore[arg-type]
