"""A folder with data and results, and the command line in it."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import SEM_TINY, Command, Result, arrays, broken, contents

from unlearnable_bench import api
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.cli import main
from unlearnable_bench.planning import registry


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.npz, and in results what is found by `run --methods sem`."""
    folder = tmp_path_factory.mktemp("finished")
    np.savez(folder / "tiny.npz", **arrays())
    settings = {"training.epochs": "1", "sem.steps": "2"}
    data = f"npz:{folder / 'tiny.npz'}"
    plan = api.make_plan(methods=["sem"], dataset=data, settings=settings)
    api.run(plan, folder / "results", device="cpu")
    return folder


@pytest.fixture
def workplace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a copy of `finished` in it, and no plugin files."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for kind in registry.REGISTRIES.values():
        monkeypatch.setattr(kind, "_from_files", {})
    return tmp_path


@pytest.fixture
def ubench(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    assert Path.cwd() == workplace

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["ubench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert isinstance(stopped.value.code, int)
        return Result(stopped.value.code, *capsys.readouterr())

    return call


@pytest.fixture
def refused(ubench: Command, workplace: Path) -> Callable[..., str]:
    """Run a command that must fail in one line and change nothing; return the line."""

    def call(*arguments: object) -> str:
        before = contents(workplace)
        result = ubench(*arguments)
        assert result.code == 2
        assert result.err.startswith("ubench: ")
        assert result.err.count("\n") == 1
        assert result.err.endswith("\n")
        assert contents(workplace) == before
        return result.err

    return call


@pytest.fixture
def failing(ubench: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A folder `out` in which `clean` is finished and `sem` has failed."""
    with monkeypatch.context() as patch:
        patch.setattr(SEM, "generate", broken)
        assert ubench(*SEM_TINY).code == 2
    return ubench
