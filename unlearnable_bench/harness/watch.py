"""Values that are not finite, found by captured steps and by the end of a training."""

import torch
from torch import Tensor, nn

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.acceleration import fused


class Watch:
    """The first values that were not finite, stored on the device.

    Attributes:
        step: current step of the loop, int64 scalar.
        first: step and image of the first such values, int64 [2]; -1 if all were finite.
    """

    def __init__(self, step: int, device: torch.device) -> None:
        self.step = torch.full((), step, dtype=torch.int64, device=device)
        self.first = torch.full((2,), -1, dtype=torch.int64, device=device)

    def check(self, label: str) -> None:
        """Refuse values that were not finite.

        Args:
            label: name of the loop.

        Raises:
            UserError: names the first step and image.
        """
        step, image = self.first.tolist()
        if step >= 0:
            raise UserError(
                f"the noise of image {image} met NaN or infinity ({label}, step {step}); "
                "lower the learning rate"
            )


@fused
def note(values: Tensor, index: Tensor, step: Tensor, first: Tensor) -> None:
    """Note the step and the lowest image of values that are not finite, once.

    Args:
        values: float [B, ...].
        index: indices of the images, int64 [B].
        step: current step, int64 scalar.
        first: receives step and image, int64 [2]; -1 before.
    """
    broken = ~values.isfinite().flatten(1).all(1)
    # The lowest index by `where`, since indexing with a mask would wait for the device.
    now = torch.stack([step, torch.where(broken, index, index.amax()).amin()])
    first.copy_(torch.where(broken.any() & (first[0] < 0), now, first))


def refuse_divergence(model: nn.Module) -> None:
    """Refuse a network whose weights are NaN or infinite.

    Raises:
        UserError: names the first such tensor.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"training diverged ({name} is not finite); lower the learning rate")
