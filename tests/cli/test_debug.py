"""A learner's, an attack's and our own exceptions: one line, and a traceback where it is said."""

import json
import re
from pathlib import Path

import pytest
from commands import Command, run_tiny

from unlearnable_bench.planning import registry
from unlearnable_bench.screen import reporting

ATTACK = """
from unlearnable_bench import Attack

def inner():
    {}["my own line"]

class Mine(Attack):
    surrogate = "none"

    def generate(self, images, harness):
        inner()
"""
LEARNER = """
from unlearnable_bench import Learner

class Odd(Learner):
    def build(self, classes, size):
        raise ValueError("my learner")
"""


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("UBENCH_HOME", str(folder))
    return folder


def forget_plugins() -> None:
    for kind in registry.REGISTRIES.values():
        kind._from_files.clear()


def test_a_failed_cell_names_the_file_with_its_traceback(ubench: Command, workplace: Path) -> None:
    (workplace / "mine.py").write_text(ATTACK)
    command = run_tiny("--methods", "mine", "--no-clean", "--plugin", "mine.py")
    result = ubench(*command)
    assert (result.code, result.err.count("\n")) == (2, 1)
    path = re.search(r"; traceback: (out/failures/\w+\.json)\n", result.err)
    assert path
    trace = json.loads((workplace / path[1]).read_text())["traceback"]
    assert '{}["my own line"]' in trace
    forget_plugins()
    shown = ubench(*command, "--debug").err
    assert 'mine.py", line 5, in inner\n    {}["my own line"]\n' in shown
    assert shown.endswith(result.err)
    forget_plugins()
    assert ubench(*command).err == result.err  # the option is of one command


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_learner_that_fails_in_the_estimate_is_named(
    ubench: Command, workplace: Path, home: Path, more: tuple[str, ...]
) -> None:
    (workplace / "odd.py").write_text(LEARNER)
    command = run_tiny("--methods", "random", "--learners", "odd", "--plugin", "odd.py", *more)
    result = ubench(*command)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith(
        "ubench: learner 'odd' on images of 16 px fails: ValueError: my learner ("
    )
    assert result.err.endswith(f"; traceback: {home / 'last-error.txt'}\n")
    assert 'raise ValueError("my learner")' in (home / "last-error.txt").read_text()
    assert not (workplace / "out" / "cells").exists()
    forget_plugins()
    assert "Traceback (most recent call last)" in ubench(*command, "--debug").err


def test_an_error_of_our_own_is_one_line_and_code_1(
    ubench: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(reporting, "load", fail)
    result = ubench("report", "results")
    assert (result.code, result.out) == (1, "")
    assert re.fullmatch(
        r"ubench: internal error, please report it: RuntimeError: two lines \(\S+:\d+\); "
        rf"traceback: {home}/last-error\.txt\n",
        result.err,
    )
    monkeypatch.setenv("UBENCH_HOME", "/dev/null/home")
    assert ubench("report", "results").err.endswith("; add --debug for the traceback\n")
    shown = ubench("report", "results", "--debug")
    assert shown.code == 1
    assert shown.err.startswith("Traceback (most recent call last):\n")


def test_a_mistake_in_the_command_leaves_no_traceback(ubench: Command, home: Path) -> None:
    assert "traceback" not in ubench("list", "nothing").err
    assert not list(home.iterdir())


def test_a_value_pasted_by_mistake_is_shortened(ubench: Command) -> None:
    for command in (("list", "1" * 5000), run_tiny("--methods", "random", "--seeds", "1" * 5000)):
        result = ubench(*command)
        assert result.code == 2
        assert f"{'1' * 99}...{'1' * 90}" in result.err
        assert len(result.err) < 500
