"""The tables of docs/performance.md are those of the measured files that the page names."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
H200 = ROOT / "benchmarks" / "h200"
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of each row of the table that begins with a line."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    table = lines[: next(k for k, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def measured(name: str, part: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((H200 / name).read_text(encoding="utf-8"))[part]
    return found


def test_the_steps_are_those_of_the_file() -> None:
    steps = measured("bench.json", "measurements")
    assert rows("| job | batch | cells | ms |") == [
        [
            row["job"],
            f"{row['batch']}",
            f"{row['cells']}",
            f"{row['milliseconds']:.2f}",
            f"{row['images_per_second']:,.0f}",
            f"{row['tflops']:.3g}",
            f"{100 * row['share']:.0f} %",
            f"{row['eager_ratio']:.1f}",
            f"{row['peak_memory_mib']:,.0f}",
        ]
        for row in steps
    ]


def test_the_growth_is_that_of_the_file() -> None:
    found = rows("| parameter | value | job | time |")
    grown = measured("growth.json", "growth")
    assert [(row[0], row[1], row[2]) for row in found] == [
        (row["parameter"], f"{row['value']:,}", row["job"]) for row in grown
    ]
    for row, wanted in zip(found, grown, strict=True):
        epoch = wanted["seconds_per_epoch"]
        time = f"{wanted['milliseconds']:.2f} ms" if epoch is None else f"{epoch:.2f} s an epoch"
        assert row[3:] == [time, f"{wanted['peak_memory_mib']:,.0f}"]


@pytest.mark.parametrize(
    ("option", "low", "high", "ratio"),
    # Passes of a SEM step, noise_steps x samples + 11, and of a training step, pgd_steps + 1.
    [
        ("sem.samples", 1, 10, (10 * 10 + 11) / (10 + 11)),
        ("sem.noise_steps", 5, 20, (20 * 5 + 11) / (5 * 5 + 11)),
        ("training.pgd_steps", 5, 20, 21 / 6),
        ("image size", 128, 224, (224 / 128) ** 2),
        ("small-cnn.width", 64, 512, 64),
        ("images", 5_000, 50_000, 10),
    ],
)
def test_time_grows_as_the_page_counts_or_more_slowly(
    option: str, low: int, high: int, ratio: float
) -> None:
    """Small batches and narrow networks do not fill a GPU."""
    times = {
        row["value"]: row["seconds_per_epoch"] or row["milliseconds"]
        for row in measured("growth.json", "growth")
        if row["parameter"] == option
    }
    assert 1 < times[high] / times[low] < 1.1 * ratio
