"""`ubench learners`: a line for each trained learner that a results folder keeps."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.learners import read_learner
from unlearnable_bench.screen.terminal import new_grid, print_grid, say, terminal
from unlearnable_bench.storage.damage import DamagedError, note

_LABELS = ("attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset", "seed")
_ALWAYS = ("attack", "learner", "rho_a", "seed")


def print_learners(path: Path, *, as_json: bool) -> None:
    """Print the kept learners of a results folder, or a list of them as JSON.

    Damaged files are noted and left out.

    Args:
        path: the results folder.
        as_json: print JSON, in which cells without a kept learner have the file null.

    Raises:
        UserError: not a results folder.
    """
    folder = ResultsFolder(path)
    records = sorted(folder.sound_records(), key=lambda record: record.created)
    entries = [_entry(folder, record) for record in records]
    kept = [entry for entry in entries if entry["file"]]
    if as_json:
        sys.stdout.write(json.dumps(entries, indent=1) + "\n")
        return
    out = terminal()
    if kept:
        shown = [
            name
            for name in _LABELS
            if name in _ALWAYS or len({str(entry[name]) for entry in kept}) > 1
        ]
        if any(entry["noise_seed"] != entry["seed"] for entry in kept):
            shown.append("noise_seed")
        names = ("method" if name == "attack" else name for name in shown)
        grid = new_grid(["key", *names], ["accuracy", "MB"])
        for entry in kept:
            texts = (Text(printable(str(entry[name]))) for name in ("key", *shown))
            size = f"{entry['bytes'] / 1e6:.1f}"
            grid.add_row(*texts, f"{entry['test_accuracy']:.1f}", size)
        print_grid(out, grid)
        say(out, f"{count(len(kept), 'learner')}: {path}/learners/KEY.safetensors")
    lacking = [entry["key"] for entry in entries if not entry["file"]]
    if lacking:
        some = ", ".join(lacking[:10]) + (f" and {len(lacking) - 10} more" if lacking[10:] else "")
        without = f"{count(len(lacking), 'finished cell')} without a kept learner: {some}"
        say(out, f"{without}; --keep-learners of ubench run keeps those that it trains")
    if not entries:
        say(out, f"{path} has no finished cells; run with --keep-learners")


def _entry(folder: ResultsFolder, record: Record) -> dict[str, Any]:
    """Return the labels of a cell, and its kept file if that is whole."""
    path, file = folder.learner(record.key), None
    if path.exists():
        try:
            read_learner(path)
            file = str(path)
        except DamagedError as error:
            note(f"{path} is damaged ({error.reason}); it is left out")
        except UserError as error:
            note(f"{error}; it is left out")
    labels = {name: getattr(record, name) for name in _LABELS} | {"rho_u": str(record.rho_u)}
    size = path.stat().st_size if file else 0
    accuracy = {"test_accuracy": record.test_accuracy}
    noise_seed = record.seed if record.noise_seed is None else record.noise_seed
    labels |= {"noise_seed": noise_seed}
    return {"key": record.key, **labels, **accuracy, "file": file, "bytes": size}
