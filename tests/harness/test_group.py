"""Several processes make the noise that one makes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from attack_table import ALTERNATION
from sharding import Case, Made, made_by

from unlearnable_bench.attacks.asr import ASR
from unlearnable_bench.attacks.rem import REM
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.harness.group import Group

# A batch of 7 is 4 images for the first process and 3 for the second.
CASES = {
    "rem": Case(REM(**ALTERNATION)),
    "rem, odd batches": Case(REM(**ALTERNATION | {"batch_size": 7})),
    "sem": Case(SEM(**ALTERNATION)),
    "sem, random boxes": Case(SEM(**ALTERNATION), {"crop": 6}),
    "sem, standard surrogate": Case(SEM(**ALTERNATION | {"batch_size": 1, "steps": 4})),
    "asr": Case(ASR(**ALTERNATION)),
}
RESUMED = {"2 on 2": (True, True), "2 on 1": (True, False), "1 on 2": (False, True)}
LOOPS = {"surrogate": 2, "extraction": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Made, Made]]:
    """Return what the first and the second process have after each case."""
    folder = tmp_path_factory.mktemp("group")
    cases = dict(CASES)
    cases |= {f"{name}, alone": replace(case, sharded=False) for name, case in CASES.items()}
    attack = CASES["rem"].attack
    for name, (first, second) in RESUMED.items():
        for label, step in LOOPS.items():
            state = folder / f"{name[0]}{name[-1]}{label}.safetensors"
            broken = Case(attack, sharded=first, state=state, before=(label, step))
            cases[f"broken {name} {label}"] = broken
            cases[f"{name} {label}"] = replace(broken, sharded=second, before=None)
    results = made_by(2, [*cases.values()], folder)
    return dict(zip(cases, zip(*results, strict=True), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_make_the_noise_of_one(made: dict[str, tuple[Made, Made]], name: str) -> None:
    expected = made[f"{name}, alone"][0]
    assert expected.images is not None
    for found in made[name]:
        np.testing.assert_array_equal(found.images, expected.images)
        assert found.distance(expected) < 1e-10
        assert found.draws == expected.draws


@pytest.mark.parametrize("label", LOOPS)
@pytest.mark.parametrize("name", RESUMED)
def test_a_checkpoint_resumes_on_any_number_of_processes(
    made: dict[str, tuple[Made, Made]], name: str, label: str
) -> None:
    assert [one.images for one in made[f"broken {name} {label}"]] == [None, None]
    found, expected = made[f"{name} {label}"][0], made["rem, alone"][0]
    assert found.resumed
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.distance(expected) < 1e-10


@pytest.mark.parametrize(
    ("size", "count", "rows"),
    [
        (2, 4, [[0, 1], [2, 3]]),
        (2, 5, [[0, 1, 2], [3, 4, 0]]),
        (3, 4, [[0, 1], [2, 3], [0, 1]]),
        (2, 1, [[0], [0]]),
    ],
)
def test_images_are_divided_into_equal_parts_in_order(
    size: int, count: int, rows: list[list[int]]
) -> None:
    device = torch.device("cpu")
    assert [Group(rank, size, device).rows(count).tolist() for rank in range(size)] == rows
