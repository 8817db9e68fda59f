"""The harness of attacks and defenses: device, randomness, surrogate, captured steps, loops."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.acceleration import Acceleration, acceleration
from unlearnable_bench.harness.checkpoint import Checkpoint, Stateful, tensors_of
from unlearnable_bench.harness.device import EXCLUSIVE, wait
from unlearnable_bench.harness.features import trunk
from unlearnable_bench.harness.group import Group, computed_in_parts
from unlearnable_bench.harness.initialisation import OwnDraws
from unlearnable_bench.harness.layers import Normalise, seed_dropout
from unlearnable_bench.harness.memory import max_batch
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.step import Step
from unlearnable_bench.harness.timesheet import Timesheet
from unlearnable_bench.harness.trajectory import Trajectory
from unlearnable_bench.harness.watch import Watch, note
from unlearnable_bench.harness.weights import write_tensors
from unlearnable_bench.images import ImageSet, ResizedCrop, Transform
from unlearnable_bench.radius import Radius
from unlearnable_bench.schedule import Precision, Training
from unlearnable_bench.stop import Stop, StoppedError

if TYPE_CHECKING:
    from unlearnable_bench.contract import Learner


Built = TypeVar("Built")
Parts = TypeVar("Parts", Tensor, tuple[Tensor, ...])

_ASKED = {"own": "a network", "clean": "a network trained on the clean images"}


@dataclass
class Harness:
    """The tools that turn plain PyTorch into a fast, seeded, resumable run on one device.

    Attributes:
        device: device of all tensors.
        seed: seed of all random numbers.
        precision: arithmetic of networks: bf16, fp32 or fp64. With bf16, weights, statistics and
            noise are fp32.
        transform: the data set's random transformation t.
        learner: the architecture of the surrogate (or of the learner in training).
        training: the schedule of standard training, for `clean_network`.
        images: the whole training set, whose clean network `weights` holds; None: any.
        weights: file in which `clean_network` caches the network; None: not cached.
        weights_rho_a: radius of adversarial training to which `training` and `weights` belong;
            None: any.
        surrogate: file that `keep_surrogate` writes; None: not written.
        trajectory: files of the states of `rejoin` and `leave`; None: no files.
        checkpoint: file of the loops' state; by default none.
        progress: display of the loops' progress; by default none.
        stop: request to end the loops, which then write their state.
        times: seconds spent, by kind: "work", "warmup" (compilation and capture), "preparation"
            (of images by a defense), "evaluation", and "keeping" (writing networks for later
            measurements).
        split_batches: whether a GPU may compute input gradients of large batches as two
            concurrent halves, which is faster if nothing else runs on it.
        declared: the surrogate that the attack declares, "none", "own" or "clean"; None: not
            checked.
        eager: whether networks and steps run uncompiled and uncaptured, in PyTorch's default
            layout, on any device.
        group: processes that divide the batches of `sharded` functions; None: this one only.

    Examples:
        Minimise (w - 3)^2 in a resumable loop of captured steps:

        >>> import torch
        >>> from unlearnable_bench import Harness, Transform
        >>> from unlearnable_bench.learners.small_cnn import SmallCNN
        >>> harness = Harness(torch.device("cpu"), 0, "fp32", Transform(1, flip=True), SmallCNN())
        >>> w = torch.zeros(())
        >>> harness.keep(w=w)
        >>> step = harness.capture(lambda factor: w.sub_(factor * 2 * (w - 3)))
        >>> for _ in harness.loop("descent", 20):
        ...     _ = step(torch.tensor(0.25))
        >>> round(float(w), 4)
        3.0
    """

    device: torch.device
    seed: int
    precision: Precision
    transform: Transform | ResizedCrop
    learner: "Learner"
    training: Training | None = None
    images: ImageSet | None = None
    weights: Path | None = None
    weights_rho_a: Radius | None = None
    surrogate: Path | None = None
    trajectory: Trajectory | None = None
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(None))
    progress: Progress = field(default_factory=Silent)
    stop: Stop = field(default_factory=Stop)
    times: Timesheet = field(default_factory=Timesheet)
    split_batches: bool = False
    declared: str | None = None
    eager: bool = False
    group: Group | None = None

    def __post_init__(self) -> None:
        self._watch: Watch | None = None
        self._step = 0
        self._streams: list[Random] = []
        self._weights: list[Tensor] = []
        self.asked: set[str] = set()

    @property
    def dtype(self) -> torch.dtype:
        """Type of images, noise and weights: float64 with precision fp64, else float32."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def unit(self, pixels: Tensor) -> Tensor:
        """Return 8-bit values, of any type, in units of the pixel range: pixels / 255."""
        return pixels.to(self.dtype) / 255

    def random(self, stream: str) -> Random:
        """Return the seeded random stream of this name, from its beginning.

        `keep` includes all streams created before it, so that a resumed run continues them.
        """
        self._streams.append(Random(self.seed, stream, self.device))
        return self._streams[-1]

    def tensors(self, images: ImageSet) -> tuple[Tensor, Tensor]:
        """Return images, uint8 [N, 3, H, W], and labels, int64 [N], copied to the device."""
        pixels = torch.tensor(images.images, device=self.device).permute(0, 3, 1, 2)
        return pixels, torch.tensor(images.labels, device=self.device)

    def network(
        self,
        images: ImageSet,
        stream: str = "surrogate",
        size: int | None = None,
        *,
        centred: bool = True,
    ) -> Network:
        """Return an untrained network of the harness's learner for these images.

        It maps float [B, 3, H, W] in [0, 1] to logits [B, classes] of the same type, in the
        precision of the run.

        Args:
            images: the training set, for the number of classes and the size of views.
            stream: name of the random stream of the initialisation.
            size: height and width of the network's input in pixels; None: those of views.
            centred: whether its layers `learners.Normalise` subtract 0.5. A learner of a plugin
                that normalises in another way is not changed by false.

        Raises:
            UserError: the attack declares surrogate = "none", or the learner does not return a
                module.
        """
        self.ask("own")
        size = size or self.transform.view(images.size)
        network = self.seeded(lambda: self.learner.build(images.classes, size), stream)
        if not isinstance(network, nn.Module):
            raise UserError(
                f"the learner's `build` returned {type(network).__name__}; return an nn.Module"
            )
        for layer in network.modules():
            if isinstance(layer, Normalise):
                layer.centred = centred
        network = network.to(self.device, self.dtype)
        # The state of these streams is saved with the weights.
        seed_dropout(network, lambda name: Random(self.seed, f"{stream}/{name}", self.device))
        model = self._wrapped(network, size)
        model.centred = centred
        if self.device.type == "cuda":
            itemsize = 2 if self.precision == "bf16" else self.dtype.itemsize
            model.max_batch = max_batch(network, size, self.device, itemsize)
        return model

    def features(self, model: Network) -> Network:
        """Return the part of a network up to its pooled features, in eval mode.

        It maps float [B, 3, H, W] in [0, 1] to features, float [B, D], which the learner's `head`
        maps to logits. Its weights are those of the network, also after they have changed.

        Args:
            model: a network of this harness.

        Raises:
            UserError: the learner's network has no such part.

        Examples:
            >>> import torch
            >>> from unlearnable_bench import Harness
            >>> from unlearnable_bench.datasets.shapes import Shapes
            >>> from unlearnable_bench.learners.small_cnn import SmallCNN
            >>> data = Shapes(train=20, test=10).load()
            >>> harness = Harness(torch.device("cpu"), 0, "fp32", data.transform, SmallCNN())
            >>> features = harness.features(harness.network(data.train))
            >>> features(torch.zeros(4, 3, 32, 32)).shape
            torch.Size([4, 64])
        """
        made = self._wrapped(trunk(self.learner, model.network, model.size), model.size)
        made.centred, made.max_batch = model.centred, model.max_batch
        return made.eval()

    def _wrapped(self, network: nn.Module, size: int) -> Network:
        bf16, fast = self.precision == "bf16", self._fast
        if fast:
            model = fast.network(network, size, bf16=bf16)
        else:
            layout = torch.contiguous_format if self.eager else torch.channels_last
            model = Network(network, bf16=bf16, layout=layout)
        model.size = size
        model.split_batches = self.split_batches and not self.eager
        return model

    def seeded(self, build: Callable[[], Built], stream: str) -> Built:
        """Return what `build` returns, with seeded draws of torch's own generator.

        Args:
            build: builds a module, which is initialised on the CPU.
            stream: name of the random stream of the initialisation.
        """
        start = Random(self.seed, f"{stream}/initialisation").integers(1 << 20, 2).tolist()
        seed = (start[0] << 20) + start[1]
        if not EXCLUSIVE.acquire(blocking=False):  # another cell may compile
            with self.times.on("warmup"):
                EXCLUSIVE.acquire()
        try:
            # Draws that take no generator are seeded, too.
            with torch.random.fork_rng(devices=[]), OwnDraws(seed):
                torch.manual_seed(seed)
                return build()
        finally:
            EXCLUSIVE.release()

    def apart(self, name: str) -> "Harness":
        """Return a harness of the same run for other loops, with a checkpoint of their own.

        Args:
            name: name of these loops.
        """
        return replace(self, checkpoint=self.checkpoint.apart(name), times=Timesheet())

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
        """Return a step that runs as a captured CUDA graph on a GPU, and as written on a CPU.

        Args:
            step: takes tensors of fixed shapes and has all its state in tensors that it changes
                in place. It must not change its inputs nor synchronise with the host.
        """
        fast = self._fast
        return fast.capture(step, self.device, self.times) if fast else Step(step)

    def sharded(self, function: Callable[[Tensor], Parts]) -> Callable[[Tensor], Parts]:
        """Return a function of a batch that the cards of a sharded run compute in parts.

        Without several cards, it is the function itself. The results are equal: each image gets
        the random numbers that it gets in the whole batch. Use it for noise and perturbations, in
        which images do not depend on each other. The weights must not change in it. The attack
        declares `shardable`.

        Args:
            function: maps indices of images, int64 [B], to one or more tensors [B, ...] with a row
                for each image. Its draws are from streams of `random` (see `Random.part`).
        """
        if self.group is None:
            return function
        return computed_in_parts(function, self.group, self._streams)

    @property
    def _fast(self) -> Acceleration | None:
        return None if self.eager else acceleration(self.device)

    def keep(self, **state: Stateful) -> None:
        """Declare all state that the loops change, and restore it in a resumed run.

        Call it once, before the first loop. Random streams are included automatically.

        Args:
            state: tensors, networks and optimizers by name; change tensors in place.

        Raises:
            UserError: the second call, or an object that could not be restored.
        """
        networks = {name: item for name, item in state.items() if isinstance(item, nn.Module)}
        self._weights = [x for x in tensors_of(networks).values() if x.is_floating_point()]
        named = {id(item) for item in state.values()}
        streams = (stream for stream in self._streams if id(stream) not in named)
        state |= {f"stream {number}": stream for number, stream in enumerate(streams)}
        self.checkpoint.keep(self.times, **state)

    def loop(self, label: str, total: int) -> Iterator[int]:
        """Yield the steps 0 to total - 1 that an interrupted run has not finished.

        Args:
            label: name of the loop, unique in the run; shown with its progress.
            total: number of steps.

        Raises:
            UserError: `watch` has found values that are not finite.
            StoppedError: the run is to end; the state is written.
        """
        checked = time.monotonic()
        self.stop.holding = True
        group = self.group
        if group:
            with self.times.on("warmup"):  # until the others are ready
                done = group.agreed(self.checkpoint.done(label), self.checkpoint.state)
            self.checkpoint.skip(label, done)
        for step in self.progress.track(label, total, self.checkpoint.loop(label, total)):
            if self.stop.requested:
                raise StoppedError(self.checkpoint.suspend(label, total))
            self._step = step
            if self._watch:
                self._watch.step.fill_(step)
            yield step
            if group:
                group.follow(self._weights)
            # The check waits for the device, so it is made once a second only.
            late = time.monotonic() - checked > 1 or step + 1 == total
            if self._watch and late and (group is None or group.leads):
                self._watch.check(label)
                checked = time.monotonic()

    def rejoin(self, label: str, updates: int, **state: Stateful) -> None:
        """Start a loop from the latest state on disk of a run with the same updates.

        Call it after `keep` and before the loop. The result is the same as without it.

        Args:
            label: name of the loop.
            updates: number of updates of this run; later states are not loaded.
            state: everything on which later steps of the loop depend, including random streams.
        """
        if self.trajectory is None:
            return
        joined = self.trajectory.join(
            tensors_of(state), after=self.checkpoint.done(label), until=updates
        )
        if joined:
            step, seconds = joined
            self.checkpoint.skip(label, step)
            self.times.add(seconds)

    def leave(self, label: str, updates: int, **state: Stateful) -> None:
        """Write the state at the end of a loop for longer runs with the same updates.

        Args:
            label: name of the loop.
            updates: number of updates so far.
            state: as for `rejoin`.
        """
        # A run that was resumed in a later loop no longer has this state.
        if self.trajectory is not None and self.checkpoint.is_latest(label):
            wait(self.device)  # the device may be steps behind
            with self.times.on("keeping"):
                spent = {k: s for k, s in self.times.read().items() if k != "keeping"}
                self.trajectory.leave(tensors_of(state), updates, spent)

    def keep_surrogate(self, model: nn.Module, updates: int) -> None:
        """Write the surrogate to disk, for later measurements of its robustness.

        Args:
            model: the surrogate after its last update.
            updates: number of updates.
        """
        if self.surrogate is not None:
            wait(self.device)  # the device may be steps behind
            with self.times.on("keeping"):
                # Weights alone do not show whether the network subtracts 0.5.
                plain = isinstance(model, Network) and not model.centred
                about = {"centred": False} if plain else {}
                write_tensors(self.surrogate, model.state_dict(), step=updates, **about)

    def watch(self, values: Tensor, index: Tensor) -> None:
        """Stop the loop, with step and image in the error, if values are NaN or infinite.

        For captured steps: it does not synchronise with the host; the loop checks once a second.
        Watch the gradient of the noise, since the noise itself stays finite: sign(NaN) is 0.

        Args:
            values: values to check, float [B, ...].
            index: indices of the images, int64 [B].
        """
        if self._watch is None:
            self._watch = Watch(self._step, self.device)
        note(values, index, self._watch.step, self._watch.first)
