"""On a CPU, the real Inductor compiles what the fast path gives it on a GPU; it needs g++."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench.fast.compiler import Compiler
from unlearnable_bench.fast.convolutions import FasterConvolutions
from unlearnable_bench.fast.path import _FastPath
from unlearnable_bench.harness import Random
from unlearnable_bench.harness.acceleration import install
from unlearnable_bench.harness.network import Network
from unlearnable_bench.learners.small_cnn import SmallCNN

pytestmark = pytest.mark.filterwarnings("default")  # some of torch's own


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the compiler begin with an empty cache, which must have been used in the end."""
    folder = tmp_path_factory.mktemp("inductor")
    torch.compiler.reset()  # of what any test before compiled
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        yield
    torch.compiler.reset()
    assert list(folder.rglob("*.so"))


class Residual(nn.Module):
    """Has what each rewrite looks for: a ReLU of a sum, and a strided 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.shortcut, self.last = nn.Conv2d(3, 8, 1, 2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first(x))
        y = functional.relu(self.second(y) + self.shortcut(x))
        logits: Tensor = self.last(y.mean((2, 3)))
        return logits


def forward_backward(network: nn.Module) -> list[Tensor | None]:
    """Return the logits, the gradients of input and weights, and the new statistics."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(8, 3, 32, 32, generator=generator, dtype=next(network.parameters()).dtype)
    x.requires_grad_()
    logits = network(x)
    functional.cross_entropy(logits, torch.arange(8) % 5).backward()
    return [logits, x.grad, *(p.grad for p in network.parameters()), *network.buffers()]


# Not in fp32: with 1 of 300 initial weights, its rounding turns a ReLU on in one of the two.
@pytest.mark.parametrize(
    ("build", "bf16", "tolerance"),
    [(lambda: SmallCNN(width=4).build(5, 32).double(), False, 1e-10), (Residual, True, 1e-2)],
    ids=["fp64", "bf16"],
)
def test_a_compiled_network_equals_the_eager_one(
    build: Callable[[], nn.Module], bf16: bool, tolerance: float
) -> None:
    eager = Network(build(), bf16=bf16)
    compiled = copy.deepcopy(eager)
    Compiler(FasterConvolutions()).network(compiled)
    expected, found = forward_backward(eager), forward_backward(compiled)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_compiled_functions_draw_the_same_numbers() -> None:
    def draw() -> list[Tensor]:
        random = Random(0, "draws")
        return [random.uniform(5, 3, 8, low=-1.0), random.integers(9, 4), random.integers(7, 6)]

    install("cpu", None)
    expected = draw()
    install("cpu", _FastPath(frozenset({"compile", "fuse"}), frozenset()))
    torch.testing.assert_close(draw(), expected, rtol=0, atol=0)
