"""How long work takes on a card, from what `ubench bench --json` measured there."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

from unlearnable_bench.contract import Learner
from unlearnable_bench.errors import UserError
from unlearnable_bench.planning.cost import Portion
from unlearnable_bench.planning.registry import learners
from unlearnable_bench.storage.files import read_bytes

Operations = Callable[[Learner, int], float]
"""Operations of a learner's forward pass of one image of so many pixels."""

_SIZE = 32  # height and width of the images of `ubench bench` in pixels
_NEXT = "make it with: ubench bench --json > bench.json"

_PGD = re.compile(r"training, PGD-(\d+)")
_GRADIENT, _STANDARD = "input gradient", "standard training"


@dataclass(frozen=True)
class Card:
    """The measurements of one device.

    Attributes:
        name: name of the device.
        learner: label of the network that was measured, on images of 32 px.
        precision: arithmetic that was measured.
        gradients: milliseconds of an input gradient by batch size, the smallest first.
        steps: milliseconds of a step, batch size and passes per second, by job and number of
            cells at the same time.
        warmup: seconds of compilation and capture, by job.
    """

    name: str
    learner: str
    precision: str
    gradients: tuple[tuple[int, float], ...]
    steps: Mapping[tuple[str, int], tuple[float, int, float]]
    warmup: Mapping[str, float]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the output of `ubench bench --json`.

        Raises:
            UserError: it is not such a file.
        """
        try:
            sheet = json.loads(read_bytes(path))
            rows = sheet["measurements"]
            steps = {
                (row["job"], int(row["cells"])): (
                    float(row["milliseconds"]),
                    int(row["batch"]),
                    float(row["images_per_second"]),
                )
                for row in rows
                if row["job"] != _GRADIENT
            }
            gradients = sorted(
                (int(row["batch"]), float(row["milliseconds"]))
                for row in rows
                if row["job"] == _GRADIENT
            )
            warmup = {row["job"]: float(row["warmup_seconds"]) for row in rows}
            name, learner = sheet["environment"]["device"], sheet["scale"]["learner"]
            precision = "bf16" if sheet["environment"]["cuda"] else "fp32"
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"--bench {path}: {reason}; {_NEXT}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"--bench {path} is not a table of ubench bench; {_NEXT}") from error
        if len(gradients) < 2 or (_STANDARD, 1) not in steps:
            raise UserError(f"--bench {path} lacks measurements, as after Ctrl-C; {_NEXT}")
        return cls(name, learner, precision, tuple(gradients), steps, warmup)

    def seconds(self, work: Portion, pack: int, operations: Operations) -> float | None:
        """Estimate the time that work adds on this card; None if nothing measured covers it.

        Args:
            work: a part of a plan.
            pack: number of cells that are trained at the same time.
            operations: for networks or images other than those measured, whose time grows with
                their operations.
        """
        if work.passes is None:
            return None
        if work.learner is None:
            return None if work.is_timeless else 0.0
        if work.precision != self.precision:
            return None
        scale = 1.0
        if not self.covers(work):
            measured = operations(learners.choose(self.learner).plugin, _SIZE)
            scale = operations(work.learner.plugin, work.size) / measured
        if work.steps:
            spent = scale * self._training(work, pack if work.packs else 1)
            return spent + self.warmup[_STANDARD]
        job = f"{work.poison.attack.name} step" if work.poison else ""
        if (job, 1) in self.steps:
            return scale * work.passes / self.steps[job, 1][2] + self.warmup[job]
        return scale * work.passes / work.batch * self._gradient(work.batch) / 1e3

    def covers(self, work: Portion) -> bool:
        """Return whether its network and the size of its images are those measured."""
        network = work.learner and (work.learner.label, work.size)
        return network in (None, (self.learner, _SIZE))

    def _training(self, work: Portion, pack: int) -> float:
        """Return the wall time of a cell's training and tests."""
        step, batch = self._step(_STANDARD, pack)
        if work.pgd_steps:
            step += work.pgd_steps * self._ascent(pack, step)
        grown = self._gradient(work.batch) / self._gradient(batch)
        largest = self.gradients[-1][0]
        tests = work.tests / largest * self._gradient(largest)
        return (work.steps * step * grown + tests / pack) / 1e3

    def _ascent(self, pack: int, standard: float) -> float:
        """Return the milliseconds of one PGD step of a training batch."""
        for job, _ in self.steps:
            if found := _PGD.fullmatch(job):
                return (self._step(job, pack)[0] - standard) / int(found[1])
        return self._gradient(self._step(_STANDARD, pack)[1])

    def _step(self, job: str, pack: int) -> tuple[float, int]:
        """Return milliseconds per step and cell, and the batch size, of at most `pack` cells."""
        cells = max(count for name, count in self.steps if name == job and count <= max(1, pack))
        return self.steps[job, cells][:2]

    def _gradient(self, batch: int) -> float:
        """Return the milliseconds of an input gradient, on lines between measured batch sizes."""
        points = self.gradients
        if batch >= points[-1][0]:
            return points[-1][1] * batch / points[-1][0]
        (x0, y0), (x1, y1) = next(pair for pair in pairwise(points) if batch <= pair[1][0])
        line = y0 + (batch - x0) * (y1 - y0) / (x1 - x0)
        return max(line, y0 * batch / x0) if batch < x0 else line
