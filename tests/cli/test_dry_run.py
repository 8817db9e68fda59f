"""What `ubench run --dry-run` prints of a plan's cost."""

import json
from collections.abc import Callable
from pathlib import Path

from commands import Command, run_tiny

from unlearnable_bench.results.marker import TEXT

H200 = Path(__file__).parents[2] / "benchmarks" / "h200" / "bench.json"


def test_the_estimate_of_a_card_is_printed_without_the_card(ubench: Command) -> None:
    asked = run_tiny("--methods", "tap", "--precision", "bf16", "--dry-run", "--bench", H200)
    found = ubench(*asked).out
    assert "GPU hours) on NVIDIA H200 by " in found
    assert "; scaled by operations, so rough: small-cnn, 16 px" in found


def test_json_holds_the_size_of_the_plan_and_each_estimate(ubench: Command) -> None:
    asked = run_tiny("--methods", "tap", "--seeds", "0,1", "--set", "tap.steps=2", "--dry-run")
    result = ubench(*asked, "--json", "--precision", "bf16", "--bench", H200, "--bench", H200)
    found = json.loads(result.out)
    assert (found["cells"], found["finished"], len(found["estimates"])) == (4, 0, 2)
    work = {(one["kind"], one["name"]): one for one in found["work"]}
    # TAP: 2 steps of 120 images by seed; the surrogate 12 epochs of three batches of 32.
    assert work["noise", "tap[steps=2]"] == {
        "kind": "noise", "name": "tap[steps=2]", "count": 2, "passes": 2 * 240,
    }  # fmt: skip
    assert work["clean network", "small-cnn"]["passes"] == 2 * 12 * 96
    assert work["training", "small-cnn"]["count"] == 4
    first, second = found["estimates"]
    assert first == second
    assert first["total_seconds"] == sum(first["seconds"].values())


def test_standard_output_holds_nothing_but_json(ubench: Command) -> None:
    asked = run_tiny("--methods", "random", "--dry-run", "--json", "--precision", "bf16")
    written = ubench(*asked, "--bench", H200, "--write", "grid.toml")
    assert json.loads(written.out)["cells"] == 2
    assert written.err.startswith("wrote grid.toml; run it: ubench run grid.toml ")
    # No cell failed, so that none is left.
    found = json.loads(ubench(*asked, "--retry-failed", "--out", "results").out)
    assert (found["cells"], found["work"]) == (2, [])


def test_a_folder_that_lost_its_marker_counts_and_another_is_refused(
    ubench: Command, refused: Callable[..., str]
) -> None:
    asked = (*run_tiny("--methods", "random"), "--dry-run", "--json")
    assert ubench(*asked[:-2]).code == 0
    Path("out/ubench.json").unlink()
    assert json.loads(ubench(*asked).out)["finished"] == 2
    assert json.loads(ubench(*asked, "--out", "new").out)["finished"] == 0
    Path("mine").mkdir()
    Path("mine/photo.png").touch()
    for name in ("mine", "tiny.npz"):
        assert f"{name} is " in refused(*asked, "--out", name)
        assert "results folder" in refused(*asked, "--out", name)
    Path("out/ubench.json").write_text(TEXT.replace("1}", "9}"))
    assert "from another version of ubench" in refused(*asked)


def test_options_of_the_estimate_need_a_dry_run(ubench: Command) -> None:
    for option in (("--json",), ("--bench", H200)):
        result = ubench(*run_tiny("--methods", "tap", *option))
        assert result.code == 2
        assert f"{option[0]} changes what --dry-run prints; add --dry-run" in result.err
