"""The plugin contract: what an attack, a defense, a learner, a data set and a report are.

A plugin is one frozen dataclass that subclasses one of these and is named by an
entry point of the matching group, or stands in a file given with `--plugin`.
Its fields are its options. `version` is part of the key of every result that
the plugin has a hand in: raise it when the same options mean something else.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import Configurable

# Neither torch nor pandas is imported here: `ubench report` must not wait for the one,
# nor `ubench run` for the other.
if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from unlearnable_bench.harness import Harness, Random
    from unlearnable_bench.images import Data, ImageSet, Poison
    from unlearnable_bench.radius import Radius
    from unlearnable_bench.results.table import Table


class Plugin(Configurable):
    """What every plugin has: options, a version, and its docstring's first line as summary."""

    version: ClassVar[str] = "1"

    def fingerprint(self) -> str | None:
        """Return a hash of what the options only name, such as a file; part of the keys."""
        return None

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return first_line(cls.__doc__ or "")


def first_line(docstring: str) -> str:
    """Return the first line of a docstring."""
    return docstring.strip().split("\n")[0]


@dataclass(frozen=True, kw_only=True)
class Attack(Plugin, ABC):
    """A noise method: turns clean training images into a poison.

    Attributes:
        surrogate: the network that makes the noise: "own" if `generate` trains one that
            `harness.network` returns, "clean" if it asks for a `clean_network` (the schedule of
            standard training then determines the poison too), "none" without a network. A
            `generate` that does otherwise is refused: the surrogate is part of a result's key.
    """

    surrogate: ClassVar[Literal["none", "own", "clean"]] = "own"

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

    def check(self, images: "ImageSet") -> None:
        """Raise a `UserError` for data that the method cannot take; called before any work."""

    @abstractmethod
    def generate(self, images: "ImageSet", harness: "Harness") -> "Poison":
        """Poison the training images.

        Args:
            images: the clean training set.
            harness: device, randomness, surrogate, capture, loops.

        Returns:
            The poisoned images in the same order, and the budget they keep.
        """

    def image_passes(self, images: int) -> float | None:
        """Estimate the forward-and-backward passes of single images that `generate` takes."""
        return None


@dataclass(frozen=True, kw_only=True)
class Defense(Plugin):
    """What a learner does against poisons: once with the images, or with batches on the device.

    The hooks as they stand are ordinary training (rho_a = 0) and PGD adversarial
    training (rho_a > 0). `model` takes images in [0, 1] and returns logits; it comes
    in train mode. `random` is the only source of randomness to use.
    """

    def validation_share(self) -> float:
        """Return the share of training images to hold out, clean, for choosing the epoch."""
        return 0.0

    def prepare(self, images: "ImageSet", harness: "Harness") -> "ImageSet":
        """Change the poisoned training images once, before training (filters, JPEG)."""
        return images

    def augment(
        self, model: "nn.Module", x: "Tensor", y: "Tensor", random: "Random"
    ) -> tuple["Tensor", "Tensor"]:
        """Change a batch after crop and flip (cutout, mixup).

        Args:
            model: the learner as it stands.
            x: float [B, 3, H, W] in [0, 1].
            y: float [B, C], targets whose rows sum to 1.
            random: where draws come from.
        """
        return x, y

    def perturb(
        self,
        model: "nn.Module",
        x: "Tensor",
        y: "Tensor",
        rho_a: "Radius",
        steps: int,
        random: "Random",
    ) -> "Tensor":
        """Maximise the loss inside the L-infinity ball: PGD from a uniform random start.

        Madry et al. 2018, with the step of the REM and SEM code, rho_a / 5 for 10
        steps and in proportion for other numbers of steps (steps * step = 2 rho_a).

        Args:
            model: the learner as it stands.
            x: float [B, 3, H, W] in [0, 1].
            y: float [B, C], targets whose rows sum to 1.
            rho_a: radius of the ball, above 0.
            steps: number of ascent steps.
            random: where draws come from.
        """
        from unlearnable_bench.harness import input_gradient, pgd  # noqa: PLC0415

        radius, step = float(rho_a), rho_a.step_size(steps)
        return pgd(x, lambda at: input_gradient(model, at, y), radius, step, steps, random)

    def loss(self, model: "nn.Module", x: "Tensor", perturbed: "Tensor", y: "Tensor") -> "Tensor":
        """Return the training loss, a scalar: mean cross-entropy on the perturbed batch.

        Args:
            model: the learner, in train mode.
            x: float [B, 3, H, W] in [0, 1], before `perturb`.
            perturbed: what `perturb` made of it; `x` itself where rho_a is 0.
            y: float [B, C], targets whose rows sum to 1.
        """
        from torch.nn import functional  # noqa: PLC0415

        return functional.cross_entropy(model(perturbed), y)


@dataclass(frozen=True, kw_only=True)
class Learner(Plugin, ABC):
    """An architecture. The module takes images in [0, 1] and owns its normalisation."""

    @abstractmethod
    def build(self, classes: int, size: int) -> "nn.Module":
        """Return a freshly initialised module: float [B, 3, size, size] -> logits [B, classes]."""


@dataclass(frozen=True, kw_only=True)
class Dataset(Plugin, ABC):
    """A source of images. `NAME:TEXT` on the command line sets the option `path` to TEXT."""

    @abstractmethod
    def load(self) -> "Data":
        """Return the data; the same options give the same bytes."""


@dataclass(frozen=True, kw_only=True)
class Report(Plugin, ABC):
    """A table, a figure, a page or any other text or file made from records alone.

    Attributes:
        suffix: ending of the file that `ubench report --all` writes; for text and bytes
            (tables and figures have the ending of their format).
        stem: name of that file without its ending; empty: the report's name.
        shows_unfinished: whether it has something to show where no cell is finished.
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
            UserError: these records do not hold what the report shows; says what is missing.
        """
