"""A saved array may have a name of its own, which is its row; its key is content, not place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import arrays

from unlearnable_bench import Radius, UserError, make_plan
from unlearnable_bench.planning.plan import Plan

NOISE = np.random.default_rng(0).integers(-4, 5, arrays()["x_train"].shape).astype(np.int8)


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    np.savez(tmp_path / "tiny.npz", **arrays())
    np.save(tmp_path / "noise.npy", NOISE)
    (tmp_path / "deep").mkdir()
    np.save(tmp_path / "deep" / "copy.npy", NOISE)
    np.save(tmp_path / "other.npy", -NOISE)

    def make(*methods: str, **asked: Any) -> Plan:
        paths = [method.replace("DIR", str(tmp_path)) for method in methods]
        return make_plan(methods=paths, dataset=f"npz:{tmp_path}/tiny.npz", clean=False, **asked)

    return make


def test_equal_files_have_one_key_wherever_they_lie(plan: Callable[..., Plan]) -> None:
    places = ("DIR/noise.npy", "DIR/./noise.npy", "DIR/deep/copy.npy")
    keys = {plan(f"ours=file:{place}").cells[0].key for place in places}
    assert len(keys) == 1
    assert plan("ours=file:DIR/other.npy").cells[0].key not in keys
    assert plan("theirs=file:DIR/noise.npy").cells[0].key not in keys
    # Under two names it is one poison, which is generated once.
    poisons = {plan(f"{row}=file:DIR/noise.npy").cells[0].poison.key for row in ("a", "b")}
    assert len(poisons) == 1


def test_the_name_is_the_row_and_options_follow_it(plan: Callable[..., Plan]) -> None:
    two = plan("ours=file:DIR/noise.npy", "Theirs (2024)=file:DIR/other.npy")
    assert [cell.attack_label for cell in two.cells] == ["ours", "Theirs (2024)"]
    radii = plan("ours=file:DIR/noise.npy", rho_u=[Radius("4/255"), Radius("8/255")])
    assert [cell.attack_label for cell in radii.cells] == ["ours", "ours"]
    assert len({cell.key for cell in radii.cells}) == 2
    said = plan("ours=file:DIR/noise.npy", settings={"file.content": "noise"})
    assert said.cells[0].attack_label == "ours[content=noise]"


def test_without_a_name_the_path_is_the_label(plan: Callable[..., Plan], tmp_path: Path) -> None:
    cell = plan("file:DIR/noise.npy").cells[0]
    assert cell.attack_label == f"file[path={tmp_path}/noise.npy]"
    assert cell.poison.identity["attack"]["options"]["path"] == f"{tmp_path}/noise.npy"


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (["sem=file:DIR/noise.npy"], "'sem' is the name of another row"),
        (["clean=file:DIR/noise.npy"], "'clean' is the name of another row"),
        (["remainder=file:DIR/noise.npy"], "'remainder' is the name of another row"),
        (["=file:DIR/noise.npy"], "'' is no name of a row"),
        (["a[b]=file:DIR/noise.npy"], r"'a\[b\]' is no name of a row"),
        (["a\x1b=file:DIR/noise.npy"], "is no name of a row"),
        (["ours=sem"], "only methods with a path have a row name; write ROW=file:PATH"),
        (["a=file:DIR/noise.npy", "a=file:DIR/other.npy"], "'a' is also file:.*noise.npy; choose"),
        (["ours=fil:DIR/noise.npy"], "unknown attack 'fil'; did you mean 'file'"),
    ],
)
def test_a_name_that_is_taken_or_no_name_is_refused(
    plan: Callable[..., Plan], methods: list[str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        plan(*methods)
