"""Cells of an earlier version of a plugin are told apart and can be left out."""

import json
from typing import Any

import pandas as pd
import pytest
from report_cells import cell, frame

from unlearnable_bench.results.aggregate import distinct_labels
from unlearnable_bench.results.names import display
from unlearnable_bench.results.versions import earlier


def made(attack: str, day: int, *, parts: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """A cell run last in November, with the source `more["source"]` of its attack."""
    used = {"name": attack.partition("[")[0], "version": "1", "options": {}}
    used |= {name: more.pop(name) for name in ("source", "fingerprint") if name in more}
    defense = {"name": "Composition", "version": "1", "options": {}}
    if parts:
        defense["options"] = {
            "parts": [{"name": "grain", "version": version, "options": {}} for version in parts]
        }
    network = {"name": "small-cnn", "version": more.pop("network", "1"), "options": {}}
    identity = {
        "poison": {"attack": used, "surrogate": network},
        "learner": network,
        "defense": defense,
    }
    return cell(
        attack,
        10.0 * day,
        setting=json.dumps(identity),
        last_run=f"2026-11-{day:02}T00:00:00+00:00",
        status="done",
    ) | dict(more)


def marked(frame: pd.DataFrame, label: str = "attack") -> list[str]:
    """The final labels, with 4 for each digit of a hash."""
    return [name[:-4] + "4444" if " #" in name else name for name in distinct_labels(frame)[label]]


def test_the_newest_source_keeps_the_name_and_the_older_gets_a_hash() -> None:
    cells = frame(made("mine", 1, source="old"), made("mine", 2, source="new"), made("em", 1))
    assert marked(cells) == ["mine #4444", "mine", "em"]
    assert earlier(cells)["attack"].tolist() == [True, False, False]


def test_the_newest_is_the_one_run_last_in_whatever_order_the_rows_are() -> None:
    cells = frame(made("mine", 2, source="new"), made("mine", 1, source="old"))
    assert marked(cells) == ["mine", "mine #4444"]


def test_a_variant_that_exists_of_the_older_source_only_has_a_hash_too() -> None:
    cells = frame(made("mine[x=2]", 1, source="old"), made("mine", 2, source="new"))
    assert marked(cells) == ["mine[x=2] #4444", "mine"]


def test_a_file_of_the_same_label_with_other_content_is_earlier_and_another_file_is_not() -> None:
    cells = frame(
        made("file[path=a]", 1, fingerprint="1"),
        made("file[path=a]", 2, fingerprint="2"),
        made("file[path=b]", 1, fingerprint="3"),
    )
    assert marked(cells) == ["file[path=a] #4444", "file[path=a]", "file[path=b]"]


def test_an_earlier_network_marks_learner_and_method_and_an_earlier_part_the_defense() -> None:
    networks = frame(made("mine", 1, network="1"), made("mine", 2, network="2"))
    assert marked(networks) == ["mine #4444", "mine"]
    assert marked(networks, "learner") == ["small-cnn #4444", "small-cnn"]
    defenses = frame(
        made("em", 1, parts=("1", "1"), defense="jpeg+grain"),
        made("em", 2, parts=("1", "2"), defense="jpeg+grain"),
    )
    assert earlier(defenses)["defense"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("rho_u", "status", "replaced"),
    [
        ("8/255", "failed", True),
        ("8/255", "missing", True),
        ("", "failed", True),
        ("16/255", "failed", False),
    ],
)
def test_a_failed_cell_is_replaced_by_a_later_one_with_the_same_labels(
    rho_u: str, status: str, *, replaced: bool
) -> None:
    failed = made("mine", 1) | {"status": status, "setting": "", "rho_u": rho_u}
    done = made("mine", 2, source="new")
    assert earlier(frame(failed, done))["unfinished"].tolist() == [replaced, False]
    # A run that is not finished yet is newer than what was done before.
    failed["last_run"] = made("mine", 3)["last_run"]
    cells = frame(failed, done)
    assert earlier(cells)["unfinished"].tolist() == [False, False]
    assert marked(cells) == ["mine #4444" if replaced else "mine"]


def test_records_of_equal_plugins_are_never_earlier() -> None:
    cells = frame(made("mine", 1, source="one"), made("mine", 2, source="one", seed=1))
    assert not earlier(cells).any(axis=None)
    assert marked(cells) == ["mine", "mine"]


def test_the_hash_of_a_label_with_options_stays_at_its_end() -> None:
    assert display("mine[x=2] #3f2a") == "mine (x=2) #3f2a"
    assert display("sem #3f2a", {"sem": "Ours"}) == "Ours #3f2a"
    assert display("jpeg+grain[std=1] #3f2a") == "JPEG + grain (std=1) #3f2a"
