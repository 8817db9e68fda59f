"""A row that the user names goes through the command line, the table and the records."""

from pathlib import Path

import numpy as np
from commands import Command, arrays, run_tiny

from unlearnable_bench import load_records
from unlearnable_bench.results.command import recipe_of


def test_a_named_row_is_in_table_records_and_the_command_to_repeat(
    ubench: Command, workplace: Path
) -> None:
    shape = arrays()["x_train"].shape
    noise = np.random.default_rng(0).integers(-4, 5, shape).astype(np.int8)
    np.save(workplace / "a=b.npy", noise)
    result = ubench(*run_tiny("--methods", "ours=file:a=b.npy", "--no-clean"))
    assert result.code == 0, result.err
    assert "│ ours " in result.out
    frame = load_records(workplace / "out")
    assert [*frame["attack"]] == ["ours"]
    recipe = recipe_of(frame.iloc[0])
    assert " --methods ours=file:PATH " in recipe.command
    assert any(note.startswith("PATH: a file with the SHA-256 ") for note in recipe.notes)
    (workplace / "a=b.npy").rename(workplace / "moved.npy")
    again = ubench(*run_tiny("--methods", "ours=file:moved.npy", "--no-clean"))
    assert "0 cells computed, 1 reused" in again.out
