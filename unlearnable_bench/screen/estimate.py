"""Before a run: whether its networks take the images, and how long it takes."""

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from unlearnable_bench.errors import plugin_errors
from unlearnable_bench.harness import Harness, input_gradient
from unlearnable_bench.planning.cost import Portion, work_of
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.running.environment import device_name, use_algorithms
from unlearnable_bench.screen.forecast import Forecast, by_passes, passes_of, rest_of
from unlearnable_bench.screen.pace import Pace, crowded
from unlearnable_bench.screen.terminal import duration

if TYPE_CHECKING:
    from collections.abc import Callable


def check_learners(plan: Plan, device: torch.device) -> None:
    """Build every learner and surrogate of a plan, and give it two images.

    Raises:
        UserError: one that fails, e.g. because the images are too small for it.
    """
    size = plan.data.test.size
    chosen = {cell.learner.label: cell.learner for cell in plan.cells}
    for item in plan.work:
        if item.poison.attack.plugin.surrogate != "none":
            chosen[item.poison.surrogate.label] = item.poison.surrogate
    images = torch.zeros(2, 3, size, size, device=device)
    for label, learner in chosen.items():
        with plugin_errors(f"learner {label!r} on images of {size} px"), torch.no_grad():
            learner.plugin.build(plan.data.train.classes, size).to(device)(images)


def estimate(
    plan: Plan,
    device: torch.device,
    *,
    works: Sequence[Portion] | None = None,
    dry_run: bool,
    pace: Pace | None = None,
    remote: bool = False,
) -> str:
    """Time the first learner's input gradient in the plan's precision, and extrapolate.

    On a GPU only in a dry run: compilation takes longer than many plans, and without it a step
    takes ten times as long as in a run. On a CPU, `pace` expects what is measured, and the hint
    of busy cores follows the estimate.

    Args:
        plan: the plan.
        device: this device.
        works: what is left to do; None: the whole plan.
        dry_run: whether the plan is not run.
        pace: receives the time of a pass on a CPU; None: no hint of busy cores.
        remote: whether other machines compute, which no device here is like.
    """
    works = work_of(plan) if works is None else works
    if remote:
        return f"{passes_of(works):.2g} image passes"
    if device.type == "cuda" and not dry_run:
        return f"{passes_of(works):.2g} image passes; use --dry-run for a time"
    forecast, hint = measured(plan, device, works, trial=dry_run, pace=pace)
    on_one = " on one GPU" if device.type == "cuda" else ""
    text = f"about {duration(forecast.total)}{on_one} ({forecast.passes:.2g} image passes)"
    return "; ".join(filter(None, (text, rest_of(forecast), hint)))


def measured(
    plan: Plan,
    device: torch.device,
    works: Sequence[Portion],
    *,
    trial: bool,
    pace: Pace | None = None,
) -> tuple[Forecast, str]:
    """Estimate the time on this device by one step of the first learner.

    Args:
        plan: the plan.
        device: this device.
        works: what is left to do.
        trial: try methods without a network on a few images.
        pace: receives the time of a pass on a CPU; None: no hint of busy cores.

    Returns:
        The estimate, and a hint if other programs use the cores of a CPU, or "".
    """
    cell, on_gpu = plan.cells[0], device.type == "cuda"
    batch, size = 256 if on_gpu else 64, plan.data.test.size
    learner, precision = cell.learner.plugin, cell.poison.precision
    use_algorithms(device)
    harness = Harness(device, 0, precision, plan.data.transform, learner)
    model = harness.network(plan.data.train)
    x = torch.rand(batch, 3, size, size, dtype=harness.dtype, device=device)
    y = torch.zeros(batch, dtype=torch.int64, device=device)
    gradient: Callable[..., Any] = partial(input_gradient, model)
    warm = 1
    seconds = []
    if on_gpu:
        step = harness.capture(gradient)
        gradient, warm = step, max(1, step.warm_calls)
    for _ in range(warm + 3):
        started = time.perf_counter()
        gradient(x, y).sum().item()
        seconds.append(time.perf_counter() - started)
    fastest = min(seconds[warm:])
    name = device_name(device)
    forecast = by_passes(works, device, name, fastest / batch, trial=trial)
    if on_gpu:
        return forecast, ""
    if not pace:
        return forecast, ""
    pace.expect(fastest / batch)
    return forecast, crowded(partial(gradient, x, y), fastest)
