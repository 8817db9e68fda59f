"""A benchmark suite for availability poisoning (unlearnable examples)."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearnable_bench.api import make_plan, run
    from unlearnable_bench.contract import Attack, Dataset, Defense, Learner, Report
    from unlearnable_bench.errors import UserError
    from unlearnable_bench.harness import Harness, Random
    from unlearnable_bench.harness.progress import Progress
    from unlearnable_bench.images import Data, ImageSet, ResizedCrop, Transform
    from unlearnable_bench.options import option
    from unlearnable_bench.planning.plan import Plan
    from unlearnable_bench.poison import Budget, Poison, add_noise
    from unlearnable_bench.radius import Radius
    from unlearnable_bench.results.frame import load_records
    from unlearnable_bench.results.records import Record
    from unlearnable_bench.results.rendering import render
    from unlearnable_bench.results.table import Table
    from unlearnable_bench.running.executor import Summary
    from unlearnable_bench.running.surrogate import clean_checkpoints, clean_network

__version__ = "0.3.0.dev0"

# In a checkout attacks/, defenses/ and reports/ are next to this folder, and Python started
# there finds this folder before an installed package.
_CHECKOUT = Path(__file__).parent.parent
if (_CHECKOUT / "pyproject.toml").exists() and (_CHECKOUT / "attacks").is_dir():
    __path__.append(str(_CHECKOUT))

# Imported on first use, so that `ubench --help` does not wait for torch.
_HOME = {
    "api": ("make_plan", "run"),
    "contract": ("Attack", "Dataset", "Defense", "Learner", "Report"),
    "errors": ("UserError",),
    "execution": ("Executor",),
    "harness": ("Harness", "Random"),
    "harness.progress": ("Progress",),
    "images": ("Data", "ImageSet", "ResizedCrop", "Transform"),
    "options": ("option",),
    "planning.plan": ("Plan",),
    "poison": ("Budget", "Poison", "add_noise"),
    "radius": ("Radius",),
    "results.frame": ("load_records",),
    "results.records": ("Record",),
    "results.rendering": ("render",),
    "results.table": ("Table",),
    "running.executor": ("Summary",),
    "running.surrogate": ("clean_checkpoints", "clean_network"),
}

__all__ = [
    "Attack",
    "Budget",
    "Data",
    "Dataset",
    "Defense",
    "Executor",
    "Harness",
    "ImageSet",
    "Learner",
    "Plan",
    "Poison",
    "Progress",
    "Radius",
    "Random",
    "Record",
    "Report",
    "ResizedCrop",
    "Summary",
    "Table",
    "Transform",
    "UserError",
    "__version__",
    "add_noise",
    "clean_checkpoints",
    "clean_network",
    "load_records",
    "make_plan",
    "option",
    "render",
    "run",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
