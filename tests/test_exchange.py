"""Results through a URL, for machines without a shared folder."""

import uuid
from pathlib import Path

import pytest
from helpers import accuracies, four_cells

from unlearnable_bench import UserError, run
from unlearnable_bench.curation.exchange import Exchange, keys_of
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.damage import collected


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return four_cells(tmp_path)


def new(folder: Path) -> Path:
    ResultsFolder(folder, create=True)
    return folder


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.glob("*/*"))
    return {str(path) for path in found if path.suffix != ".lock"}


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_results_pass_through_a_url(plan: Plan, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "store" if kind == "file" else uuid.uuid4().hex
    url = f"{kind}://{place}"
    there, here, keys = tmp_path / "there", new(tmp_path / "here"), keys_of(plan.cells[-1])
    run(plan, there, device="cpu")
    Exchange(url, there, keys).send()
    Exchange(url, here, keys).collect()
    key = plan.cells[-1].key
    assert accuracies(here) == {key: accuracies(there)[key]}
    assert files(here) == {name for name in files(there) if name.split("/")[1][:32] in keys}
    assert run(plan, here, device="cpu").reused == 1


def test_records_are_sent_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, sent = "a" * 32, list[str]()
    folder = new(tmp_path / "here")
    for kind, ending in (
        ("cells", "json"),
        ("networks", "safetensors"),
        ("poisons", "safetensors"),
    ):
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"{key}.{ending}").touch()
    monkeypatch.setattr(Exchange, "_put", lambda _, path, __: sent.append(path.parent.name))
    Exchange(f"memory://{uuid.uuid4().hex}", folder, [key]).send()
    assert sent == ["networks", "poisons", "cells"]


def test_a_checkpoint_is_sent_fetched_and_removed_once_it_is_not_needed(tmp_path: Path) -> None:
    url, key, other = f"memory://{uuid.uuid4().hex}", "a" * 32, "b" * 32
    first, second = new(tmp_path / "first"), new(tmp_path / "second")
    for name in (f"{key}.safetensors", f"{key}-preparation.safetensors", f"{other}.safetensors"):
        path = first / "work" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    (first / "work" / f"{key}.lock").touch()
    Exchange(url, first, [key]).send()
    exchange = Exchange(url, second, [key])
    exchange.fetch()
    checkpoints = {f"work/{key}.safetensors", f"work/{key}-preparation.safetensors"}
    assert files(second) == checkpoints
    # Sent again if it has changed.
    (second / "work" / f"{key}.safetensors").write_bytes(b"more steps")
    exchange.send()
    (second / "work" / f"{key}-preparation.safetensors").unlink()
    exchange.send()
    third = new(tmp_path / "third")
    Exchange(url, third, [key]).fetch()
    assert files(third) == {f"work/{key}.safetensors"}
    assert (third / "work" / f"{key}.safetensors").read_bytes() == b"more steps"
    # A driver takes results only.
    Exchange(url, third, [key]).collect()
    assert files(third) == {f"work/{key}.safetensors"}


def test_damaged_results_are_not_taken(plan: Plan, tmp_path: Path) -> None:
    url, there, here = f"file://{tmp_path}/store", tmp_path / "there", new(tmp_path / "here")
    keys = keys_of(plan.cells[0])
    run(plan, there, device="cpu")
    Exchange(url, there, keys).send()
    record = tmp_path / "store" / "cells" / f"{plan.cells[0].key}.json"
    record.write_text(record.read_text().replace("test_accuracy", "test_accuracx"))
    with collected() as damaged:
        Exchange(url, here, keys).collect()
    assert accuracies(here) == {}
    assert "is damaged" in damaged[0]


def test_a_folder_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    here = new(tmp_path / "here")
    Exchange(f"file://{tmp_path}/none", here, ["a" * 32]).fetch()
    assert files(here) == set()


def test_a_url_of_no_file_system_is_refused() -> None:
    with pytest.raises(UserError, match=r"ray\.store=nosuch://.*give a URL of fsspec, such as s3"):
        Exchange("nosuch://bucket/prefix", Path(), ())
