"""Settings of all tests."""

import gc
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from unlearnable_bench.planning import grid

# The same examples everywhere, so that a failure seen once can be seen again.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("repeatable")
torch.set_num_threads(1)
# A shell ignores it in what it starts with `&`, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _plans_are_small_on_a_gpu_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "default_preset", lambda: "smoke")
        yield


@pytest.fixture(autouse=True)
def _garbage_is_searched_for_among_what_a_test_makes() -> None:
    """Each cell of a run collects garbage, for which no imported module need be read."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _torch_does_not_depend_on_earlier_tests() -> None:
    """Initial weights come from its random numbers; with several threads a run has workers."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many injected faults (`tests/faults`) were survived."""
    injected, survived = Counter[str](), Counter[str]()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "faults" and report.when == "call":
                    injected[value[0]] += value[1]
                    survived[value[0]] += value[2]
    if injected:
        terminalreporter.section("faults injected and survived")
        for kind, count in [*injected.items(), ("all", injected.total())]:
            right = survived.total() if kind == "all" else survived[kind]
            terminalreporter.line(f"{kind:24} {count:6} injected, {right:6} survived")
