"""Built-in architectures, one file each."""

from torch import Tensor, nn


class Normalise(nn.Module):
    """Normalisation with mean 0.5 and std 1 for all data, as in the REM and SEM code."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x - 0.5."""
        return x - 0.5
