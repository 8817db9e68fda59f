"""The harness that an attack gets in hand: device, randomness, surrogate, capture, loops."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.acceleration import Acceleration, acceleration, fused
from unlearnable_bench.harness.checkpoint import Checkpoint, Stateful, state_tensors
from unlearnable_bench.harness.device import EXCLUSIVE, wait
from unlearnable_bench.harness.layers import seed_dropout
from unlearnable_bench.harness.memory import max_batch
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.step import Step
from unlearnable_bench.harness.timesheet import Timesheet
from unlearnable_bench.harness.trajectory import Trajectory
from unlearnable_bench.harness.weights import write_tensors
from unlearnable_bench.images import ImageSet, ResizedCrop, Transform
from unlearnable_bench.schedule import Precision, Training

if TYPE_CHECKING:
    from unlearnable_bench.contract import Learner


_ASKED = {"own": "a network", "clean": "a network trained on the clean images"}


@dataclass
class Harness:
    """Everything between plain PyTorch and a fast, seeded, resumable run on one device.

    Attributes:
        device: where tensors live.
        seed: seed of everything random in this piece of work.
        precision: arithmetic of networks; with bf16, weights, statistics and noise are fp32.
        transform: the data set's random transformation t.
        learner: the architecture of the surrogate (or of the learner in training).
        training: the schedule of standard training, for `clean_network`.
        images: the whole training set, whose clean network `weights` holds; None: any.
        weights: file in which `clean_network` caches the network; None: not cached.
        surrogate: where `keep_surrogate` writes; None: nowhere.
        trajectory: where `rejoin` and `leave` find and keep states; None: nowhere.
        checkpoint: where the state of loops is kept.
        progress: where loops are shown.
        times: what the time goes into: "work", and apart from it "warmup" (compilation and
            capture), a defense's "preparation" of the images, "evaluation", and "keeping" of
            networks for later measurements.
        split_batches: whether a GPU may compute input gradients of large batches as two halves
            side by side, which pays if nothing else runs on it.
        declared: the surrogate that the attack declares, "none", "own" or "clean"; None: a
            network may be asked for all the same.
        eager: whether networks and steps run as written, in PyTorch's own layout, on any device.
    """

    device: torch.device
    seed: int
    precision: Precision
    transform: Transform | ResizedCrop
    learner: "Learner"
    training: Training | None = None
    images: ImageSet | None = None
    weights: Path | None = None
    surrogate: Path | None = None
    trajectory: Trajectory | None = None
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(None))
    progress: Progress = field(default_factory=Silent)
    times: Timesheet = field(default_factory=Timesheet)
    split_batches: bool = False
    declared: str | None = None
    eager: bool = False

    def __post_init__(self) -> None:
        self._watch: _Watch | None = None
        self._step = 0
        self._streams: list[Random] = []
        self.asked: set[str] = set()

    @property
    def dtype(self) -> torch.dtype:
        """Type of images, noise and weights: float64 in the exact reference, else float32."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def unit(self, pixels: Tensor) -> Tensor:
        """Return 8-bit values (of any type) as numbers in units of the pixel range: / 255."""
        return pixels.to(self.dtype) / 255

    def random(self, stream: str) -> Random:
        """Return the seeded random stream of that name, from its beginning.

        One that is asked for before `keep` is kept by itself: a resumed run goes on drawing.
        """
        self._streams.append(Random(self.seed, stream, self.device))
        return self._streams[-1]

    def tensors(self, images: ImageSet) -> tuple[Tensor, Tensor]:
        """Return copies on the device: uint8 images [N, 3, H, W] and int64 labels [N]."""
        pixels = torch.tensor(images.images, device=self.device).permute(0, 3, 1, 2)
        return pixels, torch.tensor(images.labels, device=self.device)

    def network(
        self, images: ImageSet, stream: str = "surrogate", size: int | None = None
    ) -> Network:
        """Return a freshly initialised network for views of these images, and their task.

        It takes float [B, 3, H, W] in [0, 1], computes in the run's precision and
        returns logits [B, classes] of the type of `x`. Initialised by the seed and `stream`.
        `size`: H and W, where the network sees something else than views.
        """
        self.ask("own")
        size = size or self.transform.view(images.size)
        start = Random(self.seed, f"{stream}/initialisation").integers(1 << 20, 2).tolist()
        with EXCLUSIVE, torch.random.fork_rng(devices=[]):
            torch.manual_seed((start[0] << 20) + start[1])
            network = self.learner.build(images.classes, size)
        if not isinstance(network, nn.Module):
            raise UserError(
                f"the learner's `build` returned {type(network).__name__}, no nn.Module"
            )
        network = network.to(self.device, self.dtype)
        # Their places are kept with the weights.
        seed_dropout(network, lambda name: Random(self.seed, f"{stream}/{name}", self.device))
        bf16, fast = self.precision == "bf16", self._fast
        if fast:
            model = fast.network(network, size, bf16=bf16)
        else:
            layout = torch.contiguous_format if self.eager else torch.channels_last
            model = Network(network, bf16=bf16, layout=layout)
        model.split_batches = self.split_batches and not self.eager
        if self.device.type == "cuda":
            itemsize = 2 if bf16 else self.dtype.itemsize
            model.max_batch = max_batch(network, size, self.device, itemsize)
        return model

    def ask(self, surrogate: Literal["own", "clean"]) -> None:
        """Note that a network is asked for.

        Raises:
            UserError: the attack declares another surrogate.
        """
        if self.declared == "none" or (surrogate == "clean" and self.declared == "own"):
            raise UserError(
                f'the attack declares surrogate = "{self.declared}" and asks for '
                f'{_ASKED[surrogate]}; declare surrogate = "{surrogate}", so that the key of its '
                "results covers the network"
            )
        self.asked.add(surrogate)

    def capture(self, step: Callable[..., Any]) -> Step:
        """Make a plain PyTorch step fast: on a GPU, compiled and captured as a CUDA graph.

        The step takes tensors of fixed shapes and keeps its state in tensors that it
        changes in place. On a CPU it runs as written.
        """
        fast = self._fast
        return fast.capture(step, self.device, self.times) if fast else Step(step)

    @property
    def _fast(self) -> Acceleration | None:
        return None if self.eager else acceleration(self.device)

    def keep(self, **state: Stateful) -> None:
        """Name all that the loops change (tensors, networks, optimizers).

        Call it once, before the first loop. A resumed run continues from the state kept, and
        random streams from where they were.

        Raises:
            UserError: called before, or something that could not be restored.
        """
        named = {id(item) for item in state.values()}
        streams = (stream for stream in self._streams if id(stream) not in named)
        state |= {f"stream {number}": stream for number, stream in enumerate(streams)}
        self.checkpoint.keep(self.times, **state)

    def loop(self, label: str, total: int) -> Iterator[int]:
        """Yield 0..total-1, less what an interrupted run has done; shows progress.

        Raises:
            UserError: `watch` has seen values that are not finite.
        """
        looked = time.monotonic()
        for step in self.progress.track(label, total, self.checkpoint.loop(label, total)):
            self._step = step
            if self._watch:
                self._watch.step.fill_(step)
            yield step
            # Looking waits for the device: seldom enough to cost nothing.
            if self._watch and (time.monotonic() - looked > 1 or step + 1 == total):
                self._watch.look(label)
                looked = time.monotonic()

    def rejoin(self, label: str, updates: int, **state: Stateful) -> None:
        """Begin a loop at the latest state that a run of the same updates left on disk.

        Call it after `keep` and before the loop. The result is that of all updates made here.

        Args:
            label: of the loop.
            updates: number of updates that this run makes: no later state is taken.
            state: all that the loop's later steps depend on, and the random streams.
        """
        if self.trajectory is None:
            return
        found = self.trajectory.join(
            _tensors_of(state), after=self.checkpoint.done(label), until=updates
        )
        if found:
            step, seconds = found
            self.checkpoint.skip(label, step)
            self.times.add(seconds)

    def leave(self, label: str, updates: int, **state: Stateful) -> None:
        """Keep the state at the end of a loop for runs of the same updates that go further.

        Args:
            label: of the loop.
            updates: number of updates made.
            state: as for `rejoin`.
        """
        # After a step of a later loop, of a run that was resumed, it is another state.
        if self.trajectory is not None and self.checkpoint.is_latest(label):
            wait(self.device)  # it may be steps behind
            with self.times.on("keeping"):
                spent = {k: s for k, s in self.times.read().items() if k != "keeping"}
                self.trajectory.leave(_tensors_of(state), updates, spent)

    def keep_surrogate(self, model: nn.Module, updates: int) -> None:
        """Keep the network that made the noise, for measurements of it.

        Args:
            model: the surrogate as it is at the end.
            updates: number of updates that it has seen.
        """
        if self.surrogate is not None:
            wait(self.device)  # it may be steps behind
            with self.times.on("keeping"):
                write_tensors(self.surrogate, model.state_dict(), step=updates)

    def watch(self, values: Tensor, index: Tensor) -> None:
        """Stop the loop, naming step and image, where values are NaN or infinite.

        For use in a captured step: nothing waits; the loop looks now and then. Show it the
        gradient of the noise: the sign of NaN is 0, so that the noise itself stays finite.

        Args:
            values: float [B, ...].
            index: int64 [B], the images' numbers.
        """
        if self._watch is None:
            self._watch = _Watch(self._step, self.device)
        _note(values, index, self._watch.step, self._watch.first)


def _tensors_of(state: dict[str, Stateful]) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": tensor
        for name, item in state.items()
        for key, tensor in state_tensors(name, item).items()
    }


class _Watch:
    """Remembers on the device where values were first not finite.

    Attributes:
        step: int64 scalar, of the loop.
        first: int64 [2], step and image; -1 while all is well.
    """

    def __init__(self, step: int, device: torch.device) -> None:
        self.step = torch.full((), step, dtype=torch.int64, device=device)
        self.first = torch.full((2,), -1, dtype=torch.int64, device=device)

    def look(self, label: str) -> None:
        step, image = self.first.tolist()
        if step >= 0:
            raise UserError(
                f"the noise of image {image} met NaN or infinity ({label}, step {step}); "
                "lower the learning rate"
            )


@fused
def _note(values: Tensor, index: Tensor, step: Tensor, first: Tensor) -> None:
    broken = ~values.isfinite().flatten(1).all(1)
    # The first of them; to index at a position that the device knows would wait for it.
    found = torch.stack([step, torch.where(broken, index, index.amax()).amin()])
    first.copy_(torch.where(broken.any() & (first[0] < 0), found, first))


def refuse_divergence(model: nn.Module) -> None:
    """Raise a `UserError` where a network's weights are no longer finite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"training diverged ({name} is not finite); lower the learning rate")
