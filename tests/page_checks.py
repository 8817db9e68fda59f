"""What tests of the page have in common: records, and what a browser shows of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from playwright.sync_api import Locator, Page

from unlearnable_bench.identity import key_of
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.store import ResultsFolder

RECORDS = Path(__file__).parents[1] / "benchmarks" / "h200" / "cifar10-fast"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
RHO_A = "\N{GREEK SMALL LETTER RHO}a"
WIDTHS = {"desktop": (1280, 900), "phone": (375, 740)}
FAILURE = "RuntimeError: CUDA out of memory <b>on</b> & off"

Opener = Callable[..., Page]


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a record that was changed, under the key that it has then."""
    record = json.loads(source.read_text())
    change(record)
    record["key"] = key_of(record["identity"])
    (target / f"{record['key']}.json").write_text(json.dumps(record))


def replicated(folder: Path) -> Path:
    """Copy the records, each with a second seed one percentage point above, and a failed cell."""
    cells = folder / "cells"
    shutil.copytree(RECORDS, folder)

    def second(record: dict[str, Any]) -> None:
        record["seed"] = record["identity"]["poison"]["seed"] = 1
        record["test_accuracy"] = round(min(100.0, record["test_accuracy"] + 1), 2)

    for path in list(cells.glob("*.json")):
        edited(path, cells, second)
    (sem,) = of(load_records(folder), attack="sem", rho_a="4/255", defense="none", seed=0)
    names = ("dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset")
    labels = {name: sem[name] for name in names} | {"seed": 0, "defense": "mixup"}
    store = ResultsFolder(folder)
    store.write_plan("f" * 8, {"cells": ["f" * 32], "labels": [labels], "created": "9"})
    store.write_failure("f" * 32, labels, FAILURE, "Traceback")
    return folder


def of(frame: pd.DataFrame, **wanted: Any) -> list[dict[str, Any]]:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame.to_dict("records")


def rows(page: Page, section: str = "main-1") -> list[str]:
    return page.locator(f"#{section} tbody th").all_inner_texts()


def headings(page: Page, section: str = "main-1") -> list[str]:
    shown = page.locator(f"#{section} thead th:visible").all_inner_texts()
    return [" ".join(text.split()) for text in shown]


def column(page: Page, number: int, section: str = "main-1") -> list[str]:
    cells = page.locator(f"#{section} tbody tr > :nth-child({number + 1})")
    return [text.strip() for text in cells.all_inner_texts()]


def panel(page: Page) -> Locator:
    return page.get_by_role("dialog")


def downloaded(page: Page, name: str) -> str:
    with page.expect_download() as started:
        page.get_by_role("button", name=name, exact=True).click()
    return started.value.path().read_text(encoding="utf-8")
