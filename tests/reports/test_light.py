"""What a report of single-seed tables imports: nothing that takes a second to start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RECORDS = Path(__file__).parents[2] / "benchmarks" / "h200" / "cifar10-fast"
HEAVY = ("torch", "matplotlib", "scipy", "sklearn", "skimage", "statsmodels", "safetensors.torch")
PROGRAM = """
import json, sys
from unlearnable_bench.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Return the modules that a process has after it printed the main tables."""
    arguments = ["report", str(RECORDS), "--format", "markdown"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    assert "| SEM " in done.stdout
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("package", HEAVY)
def test_tables_of_one_seed_do_not_import(loaded: set[str], package: str) -> None:
    assert package not in loaded
