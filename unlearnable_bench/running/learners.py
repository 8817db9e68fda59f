"""Trained learners that a results folder keeps: `learners/KEY.safetensors`."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnable_bench.harness import Network
from unlearnable_bench.harness.layers import without_streams
from unlearnable_bench.harness.weights import read_tensors, write_tensors
from unlearnable_bench.identity import as_json
from unlearnable_bench.planning.plan import Cell, Plan
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.damage import DamagedError, unreadable

_LOG = logging.getLogger(__name__)


def write_learner(path: Path, cell: Cell, model: Network) -> None:
    """Write the weights of a trained learner, as the module that it built names them.

    Args:
        path: `ResultsFolder.learner` of the cell's key.
        cell: the cell.
        model: its network after the last step, or the chosen epoch.
    """
    write_tensors(
        path,
        without_streams(model.network),
        learner=as_json(cell.learner.identity()),
        classes=cell.poison.data.train.classes,
        size=cell.poison.data.test.size,
    )


def read_learner(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights of a kept learner, and the metadata: `learner`, `classes` and `size`.

    Raises:
        DamagedError: the file is damaged; it is not changed.
        UserError: it cannot be read.
    """
    try:
        return read_tensors(path, torch.device("cpu"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise DamagedError(path, error) from error


def warn_of_lacking(folder: ResultsFolder, plan: Plan, missing: Collection[str]) -> None:
    """Warn of cells that were finished without keeping their learner.

    Args:
        folder: the results folder.
        plan: the cells.
        missing: keys of the cells that are not finished.
    """
    finished = [cell.key for cell in plan.cells if cell.key not in missing]
    lacking = sum(not folder.learner(key).exists() for key in finished)
    if lacking:
        one = lacking == 1
        _LOG.warning(
            "ubench: %s finished without --keep-learners and %s no kept learner; to train %s "
            "again, move %s out of %s/cells (`ubench learners %s` prints the keys)",
            f"{count(lacking, 'cell')} {'was' if one else 'were'}",
            "has" if one else "have",
            "it" if one else "them",
            "its record" if one else "their records",
            folder.path,
            folder.path,
        )
