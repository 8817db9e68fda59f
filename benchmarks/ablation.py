"""What each technique of the fast path gains: one process each, the whole path in between.

    python benchmarks/ablation.py --out ablation.jsonl   # one GPU, nothing else on it

Every process times a SEM step, a PGD-10 step and a standard training step of ResNet-18 at batch
128, alone and in two packed cells, `--rounds` times. A first pass in parallel fills the
compiler's cache. The table gives time without the technique over time with all of them.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from unlearnable_bench import Radius
from unlearnable_bench.fast import TECHNIQUES
from unlearnable_bench.planning import registry
from unlearnable_bench.running.environment import describe, pick_device, use_fast_path
from unlearnable_bench.timing.bench import Job, attack_job, time_job, training_job

ALL = "none left out"


def jobs(learner: str, batch: int, steps: int) -> dict[str, tuple[Job, int, int]]:
    """Return job, timed steps and cells by name."""
    plugin = registry.learners.choose(learner).plugin
    standard, robust = (training_job(plugin, batch, Radius(r)) for r in ("0", "4/255"))
    return {
        "SEM": (attack_job(plugin, "sem", {"batch_size": batch}), steps, 1),
        "PGD-10": (robust, 2 * steps, 1),
        "PGD-10, 2 cells": (robust, 2 * steps, 2),
        "standard": (standard, 8 * steps, 1),
        "standard, 2 cells": (standard, 8 * steps, 2),
    }


def measure(technique: str, asked: argparse.Namespace) -> dict[str, object]:
    """Time every job without one technique."""
    device = pick_device(asked.device)
    use_fast_path(device, () if technique == ALL else (technique,))
    torch.backends.cudnn.benchmark = False
    found: dict[str, list[float]] = {}
    for _ in range(asked.rounds):
        for name, (job, steps, cells) in jobs(asked.learner, asked.batch, asked.steps).items():
            timing = time_job(job, device, steps, cells)
            found.setdefault(name, []).append(timing.milliseconds)
    return {"without": technique, "milliseconds": found, "environment": describe(device)}


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="file of results, appended to")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--learner", default="resnet18")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="techniques to leave out, by comma; default: each")
    parser.add_argument("--parallel", type=int, default=0, help="processes that fill the cache")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one, asked)))
        return
    names = asked.only.split(",") if asked.only else list(TECHNIQUES)
    command = [sys.executable, __file__, *sys.argv[1:], "--one"]
    if asked.parallel:
        waiting, running = [ALL, *names], []
        while waiting or running:
            while waiting and len(running) < asked.parallel:
                short = ["--steps", "2", "--rounds", "1"]
                one = [*command, waiting.pop(0), *short]
                running.append(subprocess.Popen(one, stdout=subprocess.DEVNULL))
            running.pop(0).wait()
        return
    half = len(names) // 2
    for name in [ALL, *names[:half], ALL, *names[half:], ALL]:
        done = subprocess.run([*command, name], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: {done.stderr[-2000:]}", file=sys.stderr)
            continue
        line = done.stdout.strip().split("\n")[-1]
        with asked.out.open("a") as file:
            file.write(line + "\n")
        print(name, {k: round(min(v), 3) for k, v in json.loads(line)["milliseconds"].items()})
        sys.stdout.flush()
    print(table([json.loads(line) for line in asked.out.read_text().splitlines()]))


def table(rows: list[dict[str, dict[str, list[float]]]]) -> str:
    """Return the ratios of medians as Markdown."""
    times: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for job, milliseconds in row["milliseconds"].items():
            times.setdefault(str(row["without"]), {}).setdefault(job, []).extend(milliseconds)
    usual = {job: statistics.median(values) for job, values in times[ALL].items()}
    lines = [f"| without | {' | '.join(usual)} |", "|---|" + "---|" * len(usual)]
    for name, by_job in times.items():
        ratios = (f"{statistics.median(by_job[job]) / usual[job]:.3f}" for job in usual)
        lines.append(f"| {name} | {' | '.join(ratios)} |")
    lines.append(f"| ms | {' | '.join(f'{value:.2f}' for value in usual.values())} |")
    spread = (f"{(max(v) - min(v)) / statistics.median(v):.1%}" for v in times[ALL].values())
    return "\n".join([*lines, f"| spread of the whole path | {' | '.join(spread)} |"])


if __name__ == "__main__":
    main()
