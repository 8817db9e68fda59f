"""State on disk between the steps of long work, so that a killed run goes on where it was."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unlearnable_bench.errors import UserError
from unlearnable_bench.files import replacing
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.timesheet import Timesheet

Stateful: TypeAlias = Tensor | nn.Module | torch.optim.Optimizer | Random


class Checkpoint:
    """A file that holds named tensors, how far each loop has come, and the time it took.

    Args:
        path: the file, or None to keep nothing.
        interval: seconds between two writings; so many times longer as a writing takes
            longer than a second, which keeps it to a small share of the time.
    """

    def __init__(self, path: Path | None, interval: float = 60.0) -> None:
        self._path = path
        self._interval = interval
        self._due = time.monotonic() + interval
        self._state: dict[str, Tensor] = {}
        self._done: dict[str, int] = {}
        self._times = Timesheet()
        self._begun: set[str] = set()

    def keep(self, times: Timesheet, /, **state: Stateful) -> None:
        """Name everything that the loops change; restores it where the file holds it.

        Raises:
            UserError: called before; an optimizer that will have state has none yet, which could
                not be restored; something that is no tensor, network, optimizer or stream.
        """
        if self._state:
            raise UserError(
                "`keep` is called a second time: name all that loops change in one call"
            )
        self._times = times
        self._state = {
            f"{name}/{key}": tensor
            for name, item in state.items()
            for key, tensor in state_tensors(name, item).items()
        }
        if self._path is None or not self._path.exists():
            return
        try:
            with safe_open(self._path, "pt") as file, torch.no_grad():
                saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                if {k: t.shape for k, t in saved.items()} != {
                    k: t.shape for k, t in self._state.items()
                }:
                    return  # of another version of the method: start again
                about = file.metadata()
                self._done, seconds = json.loads(about["done"]), json.loads(about["seconds"])
                for key, tensor in saved.items():
                    self._state[key].copy_(tensor)
                times.add(seconds)
        except (SafetensorError, KeyError, json.JSONDecodeError):
            return  # a torn file is worth no more than none: start again

    def loop(self, label: str, total: int) -> Iterator[int]:
        """Yield the steps that are still to do, and write the state now and then.

        Raises:
            UserError: a loop of this label has begun before.
        """
        if label in self._begun:
            raise UserError(
                f"the loop {label!r} begins a second time: a resumed run tells loops apart by "
                "their labels; give each its own, and use `range` within a loop"
            )
        self._begun.add(label)
        for step in range(self._done.get(label, 0), total):
            try:
                yield step
            except GeneratorExit:
                self._done[label] = total  # left by `break`: it does not begin again
                raise
            self._done[label] = step + 1
            if time.monotonic() >= self._due:
                self.write()

    def done(self, label: str) -> int:
        """Return how many steps of a loop are done."""
        return self._done.get(label, 0)

    def skip(self, label: str, steps: int) -> None:
        """Let a loop begin after so many steps: the state is already what they lead to."""
        self._done[label] = steps

    def is_latest(self, label: str) -> bool:
        """Tell whether no other loop has taken a step."""
        return not any(done for other, done in self._done.items() if other != label)

    def write(self) -> None:
        """Write the state now, atomically."""
        if self._path is None or not self._state:
            return
        started = time.monotonic()
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in self._state.items()}
        about = {"done": self._done, "seconds": self._times.read()}
        with replacing(self._path, single_writer=True) as temporary:
            save_file(tensors, temporary, {key: json.dumps(value) for key, value in about.items()})
        now = time.monotonic()
        self._due = now + self._interval * max(now - started, 1)


def state_tensors(name: str, item: Stateful) -> dict[str, Tensor]:
    """Return the tensors that are an item's whole state; copying into them restores it.

    Raises:
        UserError: an optimizer that will have state has none yet; something of another kind.
    """
    if isinstance(item, Tensor):
        return {"value": item}
    if isinstance(item, Random):
        return {"draws": item.draws}
    if isinstance(item, nn.Module):
        return dict(item.state_dict(keep_vars=True))
    if not isinstance(item, torch.optim.Optimizer):
        raise UserError(
            f"keep({name}=...) got {type(item).__name__}: it takes tensors, networks, optimizers "
            "and random streams; keep a number as a tensor that is changed in place"
        )
    stateless = isinstance(item, torch.optim.SGD) and not any(
        group["momentum"] for group in item.param_groups
    )
    if not (item.state or stateless):
        raise UserError(
            f"{type(item).__name__} has no state to keep yet: a resumed run would begin it anew; "
            "fill optimizer.state first, as `sgd` does"
        )
    return {
        f"{index}/{key}": value
        for index, state in enumerate(item.state.values())
        for key, value in state.items()
    }
