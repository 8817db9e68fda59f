"""Check the built distributions: `python check.py DIST`, as `tox -e package` does.

The sdist must hold what its tests and texts need, and no results; the wheel every module. It is
installed in a new environment, and the command is used in an empty folder.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "pyproject.toml",
    "attacks/em.py",
    "docs/protocol.md",
    "tests/conftest.py",
    "tests/oracles.py",
    "unlearnable_bench/presets/smoke.toml",
)
PACKAGES = ("attacks", "defenses", "reports", "unlearnable_bench")
REFUSED = ("results", "build", "dist", "site")
TINY = (
    *("run", "--preset", "smoke", "--methods", "em", "--out", "out"),
    *("--set", "training.epochs=1", "--set", "em.noise_steps=1"),
)


def check_files(sdist: Path, wheel: Path) -> None:
    """Refuse an sdist that lacks a file or holds results, and a wheel that lacks a module."""
    with tarfile.open(sdist) as packed:
        names = {member.name.partition("/")[2] for member in packed if member.isfile()}
    missing = set(NEEDED) - names
    assert not missing, f"{sdist.name} lacks {missing}"
    made = {n for n in names if n.split("/")[0] in REFUSED or n.endswith((".pyc", ".lock"))}
    assert not made, f"{sdist.name} holds {made}"
    # From the checkout: a package that the build does not know is absent from the sdist as well.
    found = (path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    modules = {path.relative_to(ROOT).as_posix() for path in found}
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
    missing = {f"unlearnable_bench/{n.removeprefix('unlearnable_bench/')}" for n in modules}
    missing -= installed
    assert not missing, f"{wheel.name} lacks {missing}"


def check_command(wheel: Path, folder: Path) -> None:
    """Install a wheel in a new environment, and use the command in an empty folder."""
    venv.create(folder / "env", with_pip=True)
    commands = folder / "env" / "bin"
    empty = folder / "empty"
    empty.mkdir()
    # Nothing of the checkout or of the environment around may help.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(command: str, *arguments: str) -> str:
        line = [commands / command, *arguments]
        done = subprocess.run(
            line, cwd=empty, env=clean, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    run("python", "-m", "pip", "install", "--quiet", str(wheel))
    assert run("ubench", "--version").split()[1] == wheel.name.split("-")[1]
    assert "\nsem " in run("ubench", "list", "attacks")
    assert "2 cells computed" in run("ubench", *TINY)
    assert "| EM" in run("ubench", "report", "out")
    done = json.loads(run("ubench", "status", "out", "--json"))["done"]
    key = next(key for key, name in done.items() if name.startswith("em"))
    assert "wrote made: 1600 images" in run("ubench", "export", "out", key, "--out", "made")
    assert "<html" in run("ubench", "report", "out", "--format", "html")


def main() -> None:
    """Check the only sdist and the only wheel of a folder."""
    (folder,) = map(Path, sys.argv[1:])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    check_files(sdist, wheel)
    with tempfile.TemporaryDirectory() as temporary:
        check_command(wheel.absolute(), Path(temporary))


if __name__ == "__main__":
    main()
