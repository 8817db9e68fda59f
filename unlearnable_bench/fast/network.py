"""The harness's network in fewer and faster kernels."""

from collections.abc import Collection
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from unlearnable_bench.fast.compiler import Compiler
from unlearnable_bench.harness.layers import any_weight
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.step import current_step

if TYPE_CHECKING:
    from unlearnable_bench.fast.folding import Folded


class FastNetwork(Network):
    """A compiled network in channels-last layout, with folded BatchNorm if possible.

    In train mode, or if gradients of its weights are needed, it computes the original network.
    Otherwise BatchNorm is folded into the convolutions: again whenever weights or statistics may
    have changed, but only once for the many gradients of a step.

    Args:
        network: the module that the learner built.
        size: height and width of its images in pixels.
        bf16: compute in bf16.
        compiler: compiles the network; None: not compiled.
        techniques: names of other techniques, of `fast.TECHNIQUES`.
    """

    def __init__(
        self,
        network: nn.Module,
        size: int,
        *,
        bf16: bool,
        compiler: Compiler | None,
        techniques: Collection[str],
    ) -> None:
        super().__init__(network, bf16=bf16)
        dtype = torch.bfloat16 if bf16 else any_weight(network).dtype
        folded = _folded(network, size, dtype) if "fold" in techniques else None
        # In tuples, so that they do not become submodules: they share the network's weights.
        self._as_built = (Network(network, bf16=bf16),)
        self._folded = (folded,) if folded and folded.layers else ()
        self._in_eval = tuple(Network(each, bf16=bf16) for each in self._folded)
        self._known: object = None
        self._compiler = compiler
        self._name = object()  # for the compiler, unlike an id never that of another network
        if compiler:
            for part in (*self._as_built, *self._in_eval):
                compiler.network(part)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, float [B, classes], of x, float [B, 3, H, W] in [0, 1]."""
        part = self._part()
        mode = (self._name, part in self._in_eval, self.training, torch.is_grad_enabled())
        compiling = self._compiler.compiling if self._compiler else nullcontext
        with compiling((*mode, x.shape, x.dtype, x.requires_grad)):
            logits: Tensor = part(x)
        return logits

    def uncompiled(self, x: Tensor) -> Tensor:
        """Return the logits without compiling the network, for shapes that occur rarely."""
        return self._part().uncompiled(x)

    def prepare(self) -> None:
        """Update the folded weights."""
        self._part()

    def _part(self) -> Network:
        """Return the network for the current mode, with its weights updated."""
        differentiated = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if self.training or differentiated or not self._folded:
            # Compiled code changes statistics without increasing their version counters.
            self._known = None
            return self._as_built[0]
        versions = tuple(t._version for t in self.state_dict(keep_vars=True).values())  # noqa: SLF001
        known = (current_step(), versions)
        if known[0] is None or known != self._known:
            self._folded[0].refresh()
            self._known = known
        return self._in_eval[0]


def _folded(network: nn.Module, size: int, dtype: torch.dtype) -> "Folded":
    from unlearnable_bench.fast.folding import Folded  # noqa: PLC0415 - torch may lack its needs

    return Folded(network, size, dtype)


def _count_versions(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


# torch's fused optimizers change weights without increasing their version counters.
register_optimizer_step_post_hook(_count_versions)
