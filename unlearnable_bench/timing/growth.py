"""Growth of the cost with one parameter at a time: `ubench bench --growth`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from unlearnable_bench.planning import registry
from unlearnable_bench.radius import Radius
from unlearnable_bench.running.environment import use_fast_path
from unlearnable_bench.timing.bench import (
    WARM_STEPS,
    Job,
    attack_job,
    gradient_job,
    time_job,
    training_job,
)
from unlearnable_bench.timing.scales import Scale

FORMATS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Growth:
    """The cost at one value of one parameter.

    Attributes:
        parameter: an option as in `--set`, or `image size` or `images`.
        value: its value; sizes are in pixels.
        job: name of the step.
        batch: batch size.
        milliseconds: mean time of a step on the fast path.
        seconds_per_epoch: time of one pass over the images; None for other parameters.
        peak_memory_mib: peak of the GPU's allocator in MiB; on a CPU, of this process so far.
    """

    parameter: str
    value: int
    job: str
    batch: int
    milliseconds: float
    seconds_per_epoch: float | None
    peak_memory_mib: float


def grow(
    device: torch.device, scale: Scale, on_job: Callable[[str], None] = lambda _: None
) -> Iterator[Growth]:
    """Time steps on the fast path at several values of one parameter at a time.

    Args:
        device: the CPU or one GPU.
        scale: sizes of the measurements.
        on_job: called with the title of the next job.

    Yields:
        Each row as soon as it is finished.
    """
    use_fast_path(device)
    for parameter, value, job in _growing(scale):
        on_job(f"{parameter} {value}: {job.title}")
        steps = value // job.batch if parameter == "images" else None  # of an epoch
        repeats = max(2, scale.repeats // 3) if steps is None else steps - WARM_STEPS - 1
        timing = time_job(job, device, repeats)
        yield Growth(
            parameter=parameter,
            value=value,
            job=job.name,
            batch=job.batch,
            milliseconds=timing.milliseconds,
            seconds_per_epoch=None if steps is None else steps * timing.milliseconds / 1e3,
            peak_memory_mib=timing.peak_memory_mib,
        )


def _growing(scale: Scale) -> Iterator[tuple[str, int, Job]]:
    """Yield parameter, value and job."""
    learner, batch = registry.learners.choose(scale.learner).plugin, scale.batch
    for parameter, values in scale.growth.items():
        owner, _, option = parameter.partition(".")
        for value in values:
            if owner == "training":
                job = training_job(learner, batch, Radius("4/255"), **{option: value})
            elif owner == "images":
                job = training_job(learner, batch, Radius("0"))
            elif owner == "image size":
                job = gradient_job(learner, batch, value)
            elif owner in scale.attacks:
                options = scale.attacks[owner] | {"batch_size": batch, option: value}
                job = attack_job(learner, owner, options)
            else:
                other = registry.learners.choose(owner, {}, {option: value}).plugin
                job = gradient_job(other, batch)
            yield parameter, value, job


def draw(rows: list[Growth], title: str, file: Path) -> None:
    """Save a log-log figure with one panel per parameter.

    Args:
        rows: from `grow`.
        title: title of the figure, such as the device.
        file: path whose ending is one of `FORMATS`.
    """
    import seaborn as sns  # noqa: PLC0415 - takes seconds
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    parameters = list(dict.fromkeys(row.parameter for row in rows))
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(10, 6), layout="constrained")
        columns = -(-len(parameters) // 2)
        panels = [figure.add_subplot(2, columns, 1 + k) for k in range(len(parameters))]
    for panel, parameter in zip(panels, parameters, strict=True):
        these = [row for row in rows if row.parameter == parameter]
        values = [row.value for row in these]
        times = [row.seconds_per_epoch or row.milliseconds for row in these]
        proportional = [times[-1] * value / values[-1] for value in values]
        panel.loglog(values, proportional, "--", color="grey", label="proportional")
        panel.loglog(values, times, "o-", label="measured")
        panel.set_xlabel("image size (px)" if parameter == "image size" else parameter)
        panel.set_ylabel("s per epoch" if these[0].seconds_per_epoch else "ms per step")
        panel.set_title(f"{these[0].job.split(',')[0]}, batch {these[0].batch}", fontsize="medium")
        panel.set_xticks(values, [f"{value:,}" for value in values])
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
    figure.suptitle(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(file, dpi=150)
