"""The plugin contract: base classes of attacks, defenses, learners, data sets and reports.

A plugin is a frozen dataclass that subclasses one of them. It is registered by an entry point of
the matching group, or by its file with `--plugin FILE`. Its fields are its options. `version` is
part of the key of every result that depends on the plugin: raise it if the same options give
other results.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from unlearnable_bench.errors import UserError
from unlearnable_bench.plugin import Need, Plugin, check_needs, first_line
from unlearnable_bench.radius import Radius

# Imports neither torch, for which `ubench report` should not wait, nor pandas, for which
# `ubench run` should not wait.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from unlearnable_bench.harness import Harness, Network, Random
    from unlearnable_bench.images import Data, ImageSet, Pixels, ResizedCrop, Transform
    from unlearnable_bench.poison import Poison
    from unlearnable_bench.results.table import Table
    from unlearnable_bench.schedule import Training


__all__ = ["Attack", "Dataset", "Defense", "Learner", "Need", "Plugin", "Report", "first_line"]


@dataclass(frozen=True, kw_only=True)
class Attack(Plugin, ABC):
    """A noise method, which turns clean training images into a poison.

    Attributes:
        surrogate: the network that `generate` uses: "own" if it trains a `harness.network`,
            "clean" if it calls `clean_network` (whose training schedule then is part of the
            poison's key), "none" if it uses no network. A `generate` that does otherwise is
            refused, because the surrogate is part of the key of its results.
        needs: what it takes besides the clean training images, which every attack has: "nothing",
            "labels", "pretrained weights" and so on (`Need`). It is printed, and not part of keys.
        seeded: whether the noise depends on the seed. If not, several `noise_seeds` would train
            the same learner again, and are not used.
        shardable: whether `generate` divides its batches among GPUs (`Harness.sharded`), so that
            `ubench run --shard` speeds it up. Not with surrogate "clean".

    Examples:
        >>> from dataclasses import dataclass
        >>> from typing import ClassVar, Literal
        >>> import numpy as np
        >>> from unlearnable_bench import Attack, Harness, ImageSet, Poison, Radius, option
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Brighten(Attack):
        ...     '''The same shift of all values.'''
        ...
        ...     surrogate: ClassVar[Literal["none"]] = "none"
        ...     rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
        ...
        ...     def generate(self, images: ImageSet, harness: Harness) -> Poison:
        ...         noise = np.full(images.images.shape, self.rho_u.levels)
        ...         return Poison.from_noise(images, noise, self.rho_u)
        >>> Brighten.summary(), Brighten(rho_u=Radius("2/255")).option_values()
        ('The same shift of all values.', {'rho_u': Radius(text='2/255')})
    """

    surrogate: ClassVar[Literal["none", "own", "clean"]] = "own"
    needs: ClassVar[Need] = "undeclared"
    seeded: ClassVar[bool] = True
    shardable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Refuse the attributes by which plugins of ubench 0.1 declared their surrogate."""
        super().__init_subclass__()
        for old in ("trains_surrogate", "uses_clean_network", "slow"):
            if old in vars(cls):
                raise UserError(
                    f"attack {cls.__name__} sets {old}, of ubench 0.1: declare "
                    'surrogate: ClassVar[str] = "none", "own" or "clean" instead'
                )
        if cls.surrogate not in ("none", "own", "clean"):
            raise UserError(
                f"attack {cls.__name__} declares surrogate = {cls.surrogate!r}; allowed: none, "
                "own, clean"
            )
        check_needs("attack", cls.__name__, cls.needs)

    def resolved(self, images: "ImageSet") -> Self:
        """Return the method with options filled in that it decides by the data.

        Called before `check`; the filled-in options are part of the keys. The default is the
        method itself.

        Args:
            images: the clean training set, uint8 [N, H, W, 3].
        """
        return self

    def check(self, images: "ImageSet") -> str | None:
        """Refuse data that the method does not support; called before any work.

        Args:
            images: the clean training set, uint8 [N, H, W, 3].

        Returns:
            A line for the printed plan, or None.

        Raises:
            UserError: the data is unsupported. The default accepts all data.
        """
        return None

    def check_run(
        self, images: "ImageSet", transform: "Transform | ResizedCrop", seed: int
    ) -> None:
        """Refuse views or a seed that the method does not support; called before any work.

        Args:
            images: as for `check`.
            transform: the random transformation t of training, which gives the size of views.
            seed: a seed of the run; `Random(seed, stream)` draws as `harness.random(stream)`.

        Raises:
            UserError: a run with this seed is impossible. The default accepts all.
        """

    def check_surrogate(self, images: "ImageSet", learner: "Learner", training: "Training") -> None:
        """Refuse an architecture, or the schedule of a "clean" surrogate; called before any work.

        Args:
            images: as for `check`.
            learner: the architecture of the surrogate.
            training: the schedule, of adversarial training if `surrogate_rho_a` is above 0.
        """

    def surrogate_rho_a(self) -> Radius:
        """Return the radius of adversarial training of a "clean" surrogate; 0: standard."""
        return Radius()

    @abstractmethod
    def generate(self, images: "ImageSet", harness: "Harness") -> "Poison":
        """Poison the training images.

        Args:
            images: the clean training set, uint8 [N, H, W, 3].
            harness: device, random streams, surrogate, captured steps and resumable loops.

        Returns:
            The poisoned images, uint8 [N, H, W, 3] in the same order, and their budget. A poison
            beyond its budget is refused.
        """

    def function_of_class(
        self, images: "ImageSet", poisoned: "Pixels", harness: "Harness"
    ) -> "Callable[[ImageSet], Pixels] | None":
        """Return the function of image and class by which the method poisons any image.

        For accuracy on poisoned test images, to which the suite applies it after training.

        Args:
            images: the clean training set, uint8 [N, H, W, 3].
            poisoned: the poison of `generate`, uint8 [N, H, W, 3].
            harness: as for `generate`, with the same seed.

        Returns:
            A function from images of this size and these classes to their poisoned form, uint8
            [M, H, W, 3]; None, the default: the noise belongs to the training images.
        """
        return None

    def image_passes(self, images: int) -> float | None:
        """Estimate the forward-and-backward passes of `generate`, counted in single images.

        Args:
            images: number of training images.

        Returns:
            The number of passes, for time estimates; None: unknown.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class Defense(Plugin):
    """A defense: hooks that change the training images, the batches or the loss.

    The default hooks are standard training (rho_a = 0) and PGD adversarial training (rho_a > 0).
    `model` maps images in [0, 1] to logits and is in train mode. All randomness must come from
    `random`. Hooks on batches run inside a captured step, so they must not synchronise with the
    host (`.item()`, `.cpu()`, `print`).

    Examples:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from unlearnable_bench import Defense, Random
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Invert(Defense):
        ...     '''Negatives of a random half of the images.'''
        ...
        ...     def augment(self, model, x, y, random):
        ...         chosen = random.integers(2, len(x))[:, None, None, None] == 1
        ...         return torch.where(chosen, 1 - x, x), y
        >>> x, y = torch.zeros(4, 3, 2, 2), torch.eye(4)
        >>> changed, _ = Invert().augment(torch.nn.Identity(), x, y, Random(0, "example"))
        >>> changed.unique().tolist()
        [0.0, 1.0]
    """

    needs: ClassVar[Need] = "undeclared"
    """What it takes besides the poisoned images and the labels as targets of training: "nothing",
    "labels" if its own hooks read them, "clean subset" and so on (`Need`). It is printed, and not
    part of keys."""

    adversarial_only: ClassVar[bool] = False
    """Whether it acts only in adversarial training. At rho_a = 0 it would be standard training
    under another name, so such cells are left out."""

    reads_pgd_steps: ClassVar[bool] = True
    """Whether `perturb` uses `steps`. If no defense of a run does, a setting of it is refused."""

    def __init_subclass__(cls) -> None:
        """Refuse an unknown declaration of what the defense needs."""
        super().__init_subclass__()
        check_needs("defense", cls.__name__, cls.needs)

    def check(self, images: "ImageSet") -> str | None:
        """Refuse data that the defense does not support, as `Attack.check` on clean images."""
        return None

    def image_passes(self, images: int) -> float:
        """Estimate the passes of `prepare` on so many images, as `Attack.image_passes`."""
        return 0.0

    def validation_share(self) -> float:
        """Return the share of images to hold out clean, for the epoch or `refit`, 0 to 1."""
        return 0.0

    def held_out_count(self, images: int) -> int:
        """Return how many of so many images that share is: at least one, or 0 without a share."""
        share = self.validation_share()
        return max(1, round(share * images)) if share else 0

    def chooses_epoch(self) -> bool:
        """Return whether the held-out images choose the epoch; otherwise it is the last."""
        return True

    def refit(self, model: "Network", held_out: "ImageSet", harness: "Harness") -> bool:
        """Change the trained learner with the held-out images, which are clean.

        Returns:
            Whether the learner was changed, so that it is tested again.
        """
        return False

    def prepare(self, images: "ImageSet", harness: "Harness") -> "ImageSet":
        """Change the poisoned training images once, before training (filters, JPEG).

        Args:
            images: the poisoned training set, uint8 [N, H, W, 3].
            harness: device, random streams and resumable loops.

        Returns:
            Images of the same size and classes; some may be left out.
        """
        return images

    def augment(
        self, model: "nn.Module", x: "Tensor", y: "Tensor", random: "Random"
    ) -> tuple["Tensor", "Tensor"]:
        """Change a batch after crop and flip (cutout, mixup).

        Args:
            model: the learner in its current state.
            x: images, float [B, 3, H, W] in [0, 1].
            y: targets, float [B, C], whose rows sum to 1.
            random: stream of all draws.

        Returns:
            Images and targets of the same shapes.
        """
        return x, y

    def perturb(
        self,
        model: "nn.Module",
        x: "Tensor",
        y: "Tensor",
        rho_a: Radius,
        steps: int,
        random: "Random",
    ) -> "Tensor":
        """Maximise the loss inside the L-infinity ball by PGD from a uniform random start.

        [Madry et al. 2018](https://arxiv.org/abs/1706.06083), with the step size of the REM and
        SEM code, 2 rho_a / steps.

        Args:
            model: the learner in its current state.
            x: images, float [B, 3, H, W] in [0, 1].
            y: targets, float [B, C], whose rows sum to 1.
            rho_a: radius of the ball, above 0.
            steps: number of ascent steps.
            random: stream of all draws.

        Returns:
            The perturbed images, float [B, 3, H, W] in [0, 1].
        """
        from unlearnable_bench.harness import input_gradient, pgd  # noqa: PLC0415

        radius, step_size = float(rho_a), rho_a.step_size(steps)
        return pgd(x, lambda at: input_gradient(model, at, y), radius, step_size, steps, random)

    def loss(self, model: "nn.Module", x: "Tensor", perturbed: "Tensor", y: "Tensor") -> "Tensor":
        """Return the training loss, a scalar: mean cross-entropy on the perturbed batch.

        Args:
            model: the learner, in train mode.
            x: images before `perturb`, float [B, 3, H, W] in [0, 1].
            perturbed: images after `perturb`; `x` itself if rho_a is 0.
            y: targets, float [B, C], whose rows sum to 1.
        """
        from torch.nn import functional  # noqa: PLC0415

        return functional.cross_entropy(model(perturbed), y)


@dataclass(frozen=True, kw_only=True)
class Learner(Plugin, ABC):
    """An architecture, whose module takes images in [0, 1] and includes its normalisation.

    Examples:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from unlearnable_bench import Learner, option
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Linear(Learner):
        ...     '''A linear classifier.'''
        ...
        ...     bias: bool = option(True, "bias of each class")
        ...
        ...     def build(self, classes, size):
        ...         layer = torch.nn.Linear(3 * size**2, classes, bias=self.bias)
        ...         return torch.nn.Sequential(torch.nn.Flatten(), layer)
        >>> Linear().build(classes=10, size=8)(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([5, 10])
    """

    @abstractmethod
    def build(self, classes: int, size: int) -> "nn.Module":
        """Return an untrained module, float [B, 3, size, size] to logits [B, classes].

        Args:
            classes: number of classes.
            size: height and width of the images in pixels.
        """

    def head(self, network: "nn.Module") -> "nn.Module | None":
        """Return the part from pooled features [B, D] to logits: the last linear layer.

        Methods that use features refuse None, and a part whose output is not the network's.
        """
        from unlearnable_bench.harness.features import last_linear  # noqa: PLC0415

        return last_linear(network)


@dataclass(frozen=True, kw_only=True)
class Dataset(Plugin, ABC):
    """A data set. `NAME:TEXT` on the command line sets its option `path` to TEXT.

    Examples:
        >>> from unlearnable_bench.datasets.shapes import Shapes
        >>> Shapes(train=20, test=10).load()
        <Data shapes: 20 training, 10 test images>
    """

    @abstractmethod
    def load(self) -> "Data":
        """Return the data; equal options must give equal bytes."""


@dataclass(frozen=True, kw_only=True)
class Report(Plugin, ABC):
    """A table, a figure, a page or any other text or file, made from records only.

    Attributes:
        suffix: suffix of the file that `ubench report --all` writes, for text and bytes (tables
            and figures have the suffix of their format).
        stem: name of that file without the suffix; empty: the report's name.
        shows_unfinished: whether the report has content if no cell is finished.
    """

    suffix: ClassVar[str] = ".txt"
    stem: ClassVar[str] = ""
    shows_unfinished: ClassVar[bool] = False

    @abstractmethod
    def render(self, frame: "pd.DataFrame") -> "Sequence[Table] | Figure | str | bytes":
        """Return the report.

        Args:
            frame: one row per cell, as `load_records` returns it.

        Returns:
            Tables, which every table format prints; a matplotlib figure, which is saved as PDF
            or PNG; text; or the bytes of a file.

        Raises:
            UserError: the records lack something that the report needs; the message names it.
        """
