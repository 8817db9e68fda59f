"""States of one sequence of updates on disk, shared by the runs that stop along it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unlearnable_bench.harness.weights import read_tensors, write_tensors


class Trajectory:
    """A sequence of updates that several runs have in common up to where each of them stops.

    Args:
        stem: the state after update k is in the file `STEM-k.safetensors`.

    Attributes:
        joined: number of updates that this run took over instead of computing them.
    """

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self.joined = 0

    def join(
        self, state: Mapping[str, Tensor], *, after: int, until: int
    ) -> tuple[int, dict[str, float]] | None:
        """Copy the latest state on disk into these tensors.

        A damaged state, or one of other tensors, is worth no more than none.

        Args:
            state: tensors by name, changed in place.
            after: only states of more updates than these.
            until: only states of at most so many updates.

        Returns:
            The number of updates that the state has seen and the seconds that they took by kind,
            or None where there is no such state.
        """
        for step in sorted(self._steps(), reverse=True):
            if not after < step <= until:
                continue
            try:
                found, metadata = read_tensors(self._path(step), torch.device("cpu"))
                seconds = {kind: float(value) for kind, value in metadata["seconds"].items()}
            except (ValueError, OSError, KeyError):
                continue
            if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in state.items()}:
                continue
            with torch.no_grad():
                for name, tensor in found.items():
                    state[name].copy_(tensor)
            self.joined = step
            return step, seconds
        return None

    def leave(self, state: Mapping[str, Tensor], step: int, seconds: Mapping[str, float]) -> None:
        """Keep the state after so many updates for later runs, unless it is kept already."""
        if not self._path(step).exists():
            write_tensors(self._path(step), state, step=step, seconds=dict(seconds))

    def _path(self, step: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}-{step}.safetensors")

    def _steps(self) -> list[int]:
        names = [path.stem for path in self._stem.parent.glob(f"{self._stem.name}-*.safetensors")]
        numbers = [name.removeprefix(f"{self._stem.name}-") for name in names]
        return [int(number) for number in numbers if number.isdecimal()]
