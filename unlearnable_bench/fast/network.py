"""A network that computes what the harness's does, in fewer and faster kernels."""

from collections.abc import Collection
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
    """A network in channels-last layout, compiled, its BatchNorm folded where it can be.

    In train mode, and if gradients of its weights are asked for, it is the network as
    built. Otherwise BatchNorm is folded into the convolutions: again whenever weights or
    statistics may have changed, but once for the many gradients of one step.

    Args:
        network: as the learner built it.
        size: height and width of its images.
        bf16: compute in bf16.
        compiler: compiles it; None: it runs as it is.
        techniques: names of what else is done, of `fast.TECHNIQUES`.
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
        # In tuples they are no submodules: their weights are those of the network.
        self._as_built = (Network(network, bf16=bf16),)
        self._folded = (folded,) if folded and folded.layers else ()
        self._in_eval = tuple(Network(each, bf16=bf16) for each in self._folded)
        self._known: object = None
        if compiler:
            for part in (*self._as_built, *self._in_eval):
                compiler.network(part)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes] of x, float [B, 3, H, W] in [0, 1], in its type."""
        logits: Tensor = self._part()(x)
        return logits

    def uncompiled(self, x: Tensor) -> Tensor:
        """Return the same without compiling anything for it: for shapes that occur rarely."""
        return self._part().uncompiled(x)

    def prepare(self) -> None:
        """Bring the folded weights up to date."""
        self._part()

    def _part(self) -> Network:
        """Return what computes now, its weights up to date."""
        differentiated = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if self.training or differentiated or not self._folded:
            self._known = None  # compiled code changes statistics without counting versions
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


# torch's fused optimizers change weights without counting versions.
register_optimizer_step_post_hook(_count_versions)
