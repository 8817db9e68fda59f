"""The noise of one method by itself, without a learner trained on it."""

import torch

from unlearnable_bench.errors import plugin_errors
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.images import Pixels
from unlearnable_bench.planning.plan import Cell
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import interruption
from unlearnable_bench.running.environment import plain_torch, use_algorithms
from unlearnable_bench.running.worker import Worker
from unlearnable_bench.stop import Stop


@plain_torch()
def poisoned_images(
    cell: Cell, folder: ResultsFolder, device: torch.device, progress: Progress | None = None
) -> Pixels:
    """Return the poison of a cell, uint8 [N, H, W, 3], from the folder or generated now.

    Args:
        cell: the cell, which is not trained.
        folder: results folder, which caches poisons and holds the checkpoints of their loops.
        device: the CPU or a GPU.
        progress: display of the loops; None: not shown.

    Raises:
        UserError: the method fails.
        Interrupted: a signal came; the loops have written their state.
    """
    use_algorithms(device)
    stop = Stop()
    worker = Worker(folder, device, progress or Silent(), stop)
    with interruption.postponed(stop), plugin_errors(f"attack {cell.poison.attack.name!r}"):
        return worker.poison(cell.poison)[0]
