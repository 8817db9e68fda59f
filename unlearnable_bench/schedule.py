"""Training schedules: batch size, length, learning rate and SGD's options."""

from dataclasses import dataclass
from typing import Literal

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import Configurable, option
from unlearnable_bench.radius import Radius

Precision = Literal["bf16", "fp32", "fp64"]
ScheduleName = Literal["steps", "late-steps", "triangle"]
_DECAYS = {"steps": (0.4, 0.8), "late-steps": (0.75, 0.9)}  # shares of the steps


@dataclass(frozen=True, kw_only=True)
class Training(Configurable):
    """The schedule of a learner; the defaults are those of the REM and SEM code.

    Examples:
        >>> from unlearnable_bench.schedule import Training
        >>> Training().total(images=50_000)
        40000
        >>> Training(steps=None, epochs=30, batch_size=512).total(images=50_000)
        2910
    """

    batch_size: int = option(128, "number of images in a batch", minimum=1)
    steps: int | None = option(
        40_000, "number of weight updates; none: as many as `epochs` takes", minimum=1
    )
    epochs: int = option(
        100,
        "number of passes over the training images",
        minimum=1,
        when=("training.steps is none", lambda schedule: schedule.steps is None),
    )
    lr: float = option(0.1, "peak learning rate", minimum=0)
    schedule: ScheduleName = option(
        "steps",
        "learning-rate schedule: step decay (x0.1 at 40 % and 80 %), late-steps (at 75 % and 90 %) "
        "or triangular",
    )
    momentum: float = option(0.9, "momentum of SGD", minimum=0, maximum=1)
    nesterov: bool = option(False, "Nesterov momentum instead of classical momentum")
    weight_decay: float = option(5e-4, "weight decay of SGD", minimum=0)
    label_smoothing: float = option(
        0.0, "share of the target that is spread evenly over all classes", minimum=0, maximum=1
    )
    pgd_steps: int = option(10, "number of PGD steps in adversarial training", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise UserError(
                "nesterov needs a momentum above 0; set training.momentum, or "
                "training.nesterov=false"
            )

    def total(self, images: int) -> int:
        """Return the number of updates.

        Args:
            images: number of training images; an epoch drops the incomplete last batch.
        """
        if self.steps is not None:
            return self.steps
        return self.epochs * (images // min(self.batch_size, images))

    def total_epochs(self, images: int) -> int:
        """Return the number of epochs for so many training images; the last may be a part."""
        return -(-self.total(images) // (images // min(self.batch_size, images)))

    def image_passes(self, images: int, rho_a: Radius) -> float:
        """Estimate the number of forward-and-backward passes, counted in single images.

        Args:
            images: number of training images.
            rho_a: radius of adversarial training; 0: standard training.
        """
        passes = self.pgd_steps + 1 if rho_a else 1
        return float(self.total(images) * min(self.batch_size, images) * passes)


def scheduled_lr(schedule: ScheduleName, peak: float, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    Args:
        schedule: `steps` multiplies by 0.1 at 40 % and at 80 % (REM and SEM code: 2,000 and
            4,000 of 5,000; 16,000 and 32,000 of 40,000), `late-steps` at 75 % and at 90 %.
            `triangle` rises linearly over the first 20 %, then falls linearly to 0.
        peak: the highest learning rate.
        step: the step, 0 to steps - 1.
        steps: number of steps.

    Examples:
        >>> [scheduled_lr("steps", 1.0, step, 100) for step in (39, 40, 79)]
        [1.0, 0.1, 0.1]
        >>> [scheduled_lr("late-steps", 1.0, step, 100) for step in (74, 75, 89)]
        [1.0, 0.1, 0.1]
        >>> [scheduled_lr("triangle", 1.0, step, 100) for step in (4, 20, 60)]
        [0.25, 1.0, 0.5]
    """
    done = step / steps
    if schedule in _DECAYS:
        first, second = _DECAYS[schedule]
        return peak * 0.1 ** ((done >= first) + (done >= second))
    rise = 0.2
    return peak * min(1.0, (done + 1 / steps) / rise, (1 - done) / (1 - rise))
