"""States of a sequence of updates on disk, shared by runs that stop at different updates."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unlearnable_bench.harness.weights import read_tensors, write_tensors
from unlearnable_bench.storage.damage import set_aside


class Trajectory:
    """A sequence of updates that several runs share, each up to its own last update.

    Args:
        stem: path without suffix; the state after update k is the file `STEM-k.safetensors`.

    Attributes:
        joined: number of updates that this run loaded instead of computing.
    """

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self.joined = 0

    def join(
        self, state: Mapping[str, Tensor], *, after: int, until: int
    ) -> tuple[int, dict[str, float]] | None:
        """Copy the latest state on disk into these tensors.

        Damaged states are set aside, and states of other tensors are ignored.

        Args:
            state: tensors by name, changed in place.
            after: only states after more than this number of updates are loaded.
            until: only states after at most this number of updates are loaded.

        Returns:
            The number of updates of the state and the seconds that they took, by kind; None if
            there is no such state.
        """
        for step in sorted(self._steps(), reverse=True):
            if not after < step <= until:
                continue
            try:
                saved, metadata = read_tensors(self._path(step), torch.device("cpu"))
                seconds = {kind: float(value) for kind, value in metadata["seconds"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                set_aside(self._path(step), error, "its updates are computed again")
                continue
            except OSError:
                continue
            if {n: t.shape for n, t in saved.items()} != {n: t.shape for n, t in state.items()}:
                continue
            with torch.no_grad():
                for name, tensor in saved.items():
                    state[name].copy_(tensor)
            self.joined = step
            return step, seconds
        return None

    def leave(self, state: Mapping[str, Tensor], step: int, seconds: Mapping[str, float]) -> None:
        """Write the state after `step` updates for later runs, unless it exists."""
        if not self._path(step).exists():
            write_tensors(self._path(step), state, step=step, seconds=dict(seconds))

    def _path(self, step: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}-{step}.safetensors")

    def _steps(self) -> list[int]:
        names = [path.stem for path in self._stem.parent.glob(f"{self._stem.name}-*.safetensors")]
        numbers = [name.removeprefix(f"{self._stem.name}-") for name in names]
        return [int(number) for number in numbers if number.isdecimal()]
