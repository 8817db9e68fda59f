"""What a resumed run could not restore is refused before it is lost."""

from pathlib import Path

import pytest
import torch
from helpers import make_harness
from torch import nn

from unlearnable_bench import UserError
from unlearnable_bench.harness import sgd
from unlearnable_bench.harness.checkpoint import Checkpoint


def test_a_loop_within_a_loop_is_refused() -> None:
    harness = make_harness()
    for _ in harness.loop("epochs", 2):
        assert list(harness.loop("batches", 3)) == [0, 1, 2]
        break
    with pytest.raises(UserError, match="the loop 'batches' begins a second time"):
        list(harness.loop("batches", 3))


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
    with pytest.raises(UserError, match=r"keep\(best=\.\.\.\) got float: .* as a tensor"):
        make_harness().keep(best=0.0)  # type: ignore[arg-type]
