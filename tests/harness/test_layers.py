"""Dropout draws from the harness's streams, not from torch's generator."""

import itertools

import pytest
import torch
from helpers import make_harness, random_images
from torch import nn


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_dropout_is_torchs_but_for_what_it_draws(share: float) -> None:
    class Dropping:
        def build(self, classes: int, size: int) -> nn.Module:
            return nn.Sequential(nn.Dropout(share), nn.Flatten(), nn.Linear(3 * size**2, classes))

    harness = make_harness("fp32", learner=Dropping())  # type: ignore[arg-type]
    images = random_images(2)
    first, second = (harness.network(images, stream).network for stream in ("one", "other"))
    dropout, other = (network.get_submodule("0") for network in (first, second))
    x = torch.rand(64, 100) + 1
    torch.manual_seed(0)
    drawn = [dropout(x), dropout(x), other(x)]
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(0)))
    for y in drawn:
        assert abs((y == 0).float().mean() - share) < 0.02
        torch.testing.assert_close(y[y != 0], (x / (1 - share))[y != 0])
    if share != 0.25:
        return
    assert not any(torch.equal(a == 0, b == 0) for a, b in itertools.combinations(drawn, 2))
    again = harness.network(images, "one").network
    assert torch.equal(again.get_submodule("0")(x), drawn[0])
    again.load_state_dict(first.state_dict())  # which knows how much was drawn
    assert torch.equal(again.get_submodule("0")(x), dropout(x))
    assert dropout.eval()(x) is x
