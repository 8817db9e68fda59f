"""Checkpoints of loops on disk, from which an interrupted run resumes."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unlearnable_bench.errors import UserError, one_line
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.timesheet import Timesheet
from unlearnable_bench.storage import seal
from unlearnable_bench.storage.damage import set_aside
from unlearnable_bench.storage.files import replacing

Stateful: TypeAlias = Tensor | nn.Module | torch.optim.Optimizer | Random


class Checkpoint:
    """A file of named tensors, the number of finished steps of each loop, and the time spent.

    Args:
        path: the file; None: state is never written.
        interval: seconds between two writes. If a write takes s > 1 seconds, the interval is
            multiplied by s, so that writing takes at most a small share of the time.

    Attributes:
        restored_seconds: time spent by the interrupted run whose state was restored.
    """

    def __init__(self, path: Path | None, interval: float = 60.0) -> None:
        self._path = path
        self._interval = interval
        self.restored_seconds = 0.0
        self._due = time.monotonic() + interval
        self._state: dict[str, Tensor] = {}
        self._done: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._times = Timesheet()
        self._begun: set[str] = set()

    @property
    def exists(self) -> bool:
        """Whether there is a file to restore from."""
        return self._path is not None and self._path.exists()

    def apart(self, name: str) -> "Checkpoint":
        """Return a checkpoint in a file next to this one, for other loops of the same work."""
        path = self._path and self._path.with_name(f"{self._path.stem}-{name}{self._path.suffix}")
        return Checkpoint(path, self._interval)

    def keep(self, times: Timesheet, /, **state: Stateful) -> None:
        """Declare all state that the loops change, and restore it if the file holds it.

        Args:
            times: receives the seconds of the interrupted run.
            state: tensors, networks, optimizers and random streams, by name.

        Raises:
            UserError: the second call, an optimizer whose state does not exist yet and so could
                not be restored, or an object of another type.
        """
        if self._state:
            raise UserError(
                "`keep` is called a second time; name all state of the loops in a single call"
            )
        self._times = times
        self._state = tensors_of(state)
        if self._path is not None and self.exists:
            try:
                self._restore(self._path)
            except ValueError as error:
                set_aside(self._path, error, "its work starts from the beginning")

    def _restore(self, path: Path) -> None:
        """Copy the state in the file into the declared one.

        Raises:
            ValueError: the file is damaged, or is that of other work.
        """
        if not seal.check_file(path):
            raise ValueError("it has no checksum, as of ubench before 0.3")
        try:
            with safe_open(path, "pt") as file:
                saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                about = json.loads(file.metadata()["about"])
            key, done, seconds = about["key"], about["done"], about["seconds"]
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(str(error)) from error
        if key != path.stem:
            raise ValueError(f"its key is {key}")
        if _forms(saved) != _forms(self._state):
            return  # from another version of the method: start from the beginning
        with torch.no_grad():
            for name, tensor in saved.items():
                self._state[name].copy_(tensor)
        self._done = done
        self._times.add(seconds)
        self.restored_seconds = sum(seconds.values())

    def loop(self, label: str, total: int) -> Iterator[int]:
        """Yield the remaining steps of a loop, and write the state once per interval.

        Raises:
            UserError: a loop with this label has begun before.
        """
        if label in self._begun:
            raise UserError(
                f"the loop {label!r} begins a second time; give each loop its own label, by which "
                "a resumed run finds it, and use `range` within a loop"
            )
        self._begun.add(label)
        self._totals[label] = total
        for step in range(self._done.get(label, 0), total):
            try:
                yield step
            except GeneratorExit:
                self._done[label] = total  # left by `break`: finished for a resumed run too
                raise
            self._done[label] = step + 1
            if time.monotonic() >= self._due:
                self.write()

    def done(self, label: str) -> int:
        """Return the number of finished steps of a loop."""
        return self._done.get(label, 0)

    @property
    def state(self) -> list[Tensor]:
        """All state that the loops change."""
        return list(self._state.values())

    def skip(self, label: str, steps: int) -> None:
        """Start a loop after this many steps, whose result the state already holds."""
        self._done[label] = steps

    def is_latest(self, label: str) -> bool:
        """Return whether no other loop has taken a step."""
        return not any(done for other, done in self._done.items() if other != label)

    def suspend(self, label: str, total: int) -> str:
        """Write the state of a loop that ends before its time; return what is saved, as a text."""
        if self._path is None or not self._state or not any(self._done.values()):
            return ""
        try:
            self.write()
        except (OSError, SafetensorError, UserError) as error:
            return f"not saved: {label} ({one_line(error)})"
        return f"saved: {label}, {self.done(label)} of {total} steps"

    def write(self) -> None:
        """Write the state now, atomically."""
        if self._path is None or not self._state:
            return
        started = time.monotonic()
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in self._state.items()}
        about = {
            "key": self._path.stem,
            "done": self._done,
            "totals": self._totals,
            "seconds": self._times.read(),
        }
        size = sum(tensor.nbytes for tensor in tensors.values())
        with replacing(self._path, size=size, single_writer=True) as temporary:
            metadata = {"about": json.dumps(about), "checksum": seal.PLACEHOLDER}
            save_file(tensors, temporary, metadata)
            seal.seal_file(temporary)
        now = time.monotonic()
        self._due = now + self._interval * max(now - started, 1)


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def state_tensors(name: str, item: Stateful) -> dict[str, Tensor]:
    """Return the tensors of an object's state, by name; copying into them restores it.

    Raises:
        UserError: an optimizer whose state does not exist yet, or an object of another type.
    """
    if isinstance(item, Tensor):
        return {"value": item}
    if isinstance(item, Random):
        return {"draws": item.draws}
    if isinstance(item, nn.Module):
        return dict(item.state_dict(keep_vars=True))
    if not isinstance(item, torch.optim.Optimizer):
        raise UserError(
            f"keep({name}=...) got {type(item).__name__}; allowed: tensors, networks, optimizers "
            "and random streams; declare a number as a tensor that is changed in place"
        )
    stateless = isinstance(item, torch.optim.SGD) and not any(
        group["momentum"] for group in item.param_groups
    )
    if not (item.state or stateless):
        raise UserError(
            f"{type(item).__name__} has no state to keep yet, so a resumed run could not restore "
            "it; fill optimizer.state first, as `sgd` does"
        )
    return {
        f"{index}/{key}": value
        for index, state in enumerate(item.state.values())
        for key, value in state.items()
    }


def tensors_of(state: Mapping[str, Stateful]) -> dict[str, Tensor]:
    """Return the tensors of several objects, as `NAME/KEY`.

    Raises:
        UserError: as `state_tensors`.
    """
    return {
        f"{name}/{key}": tensor
        for name, item in state.items()
        for key, tensor in state_tensors(name, item).items()
    }
