"""Weights rounded to bf16 all at once give what autocast gives, which rounds each by itself."""

import copy

import pytest
import torch
from helpers import make_harness, random_images
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench.registry import learners


def trained(forward: nn.Module, network: nn.Module) -> list[Tensor]:
    """Return logits, then what training changes: gradients and statistics."""
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(0)  # dropout
        logits = forward(x)
    functional.cross_entropy(logits, torch.arange(4) % 3).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(gradients) == len(list(network.parameters()))
    return [logits.detach(), *gradients, *network.buffers()]


class Autocast(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            result: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return result.float()


@pytest.mark.parametrize("name", learners.names())
def test_every_learner_is_trained_as_with_autocast(name: str) -> None:
    model = make_harness("bf16", learner=learners.choose(name).plugin).network(random_images(4, 32))
    network = copy.deepcopy(model.network)
    assert {str(w.dtype) for w in model._rounded().values()} == {"torch.bfloat16"}
    for found, expected in zip(
        trained(model, model.network), trained(Autocast(network), network), strict=True
    ):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_weights_that_others_read_too_are_left_to_autocast() -> None:
    class Normalised(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            assert self.weight.dtype == torch.float32
            return functional.linear(x, self.weight / self.weight.norm())

    class Learner:
        def build(self, classes: int, size: int) -> nn.Module:
            hooked = nn.Linear(8, 8)
            hooked.register_forward_pre_hook(lambda module, x: x[0] * module.weight.abs().max())
            layers = nn.Linear(3 * size**2, 8), hooked, Normalised(8, classes)
            return nn.Sequential(nn.Flatten(), *layers)

    model = make_harness("bf16", learner=Learner()).network(random_images(4, 8))  # type: ignore[arg-type]
    assert [*model._rounded()] == ["1.weight", "1.bias"]
    assert model(torch.rand(4, 3, 8, 8)).dtype == torch.float32
