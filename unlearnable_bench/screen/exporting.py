"""Output of `ubench export`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from unlearnable_bench.results.intervals import count
from unlearnable_bench.screen.terminal import say, terminal
from unlearnable_bench.storage.disk import bytes_text

if TYPE_CHECKING:
    from unlearnable_bench.exporting.content import PoisonedSet, What

_USUAL = 8  # levels that `file:` allows without a setting


def print_export(place: Path, poisoned: "PoisonedSet", what: "What") -> None:
    """Print what was written, which images carry the noise, and the command that reads it."""
    out = terminal()
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    held = count(len(poisoned), "image") if what == "images" else f"noise of {len(poisoned)} images"
    held += f", {count(len(poisoned.test), 'clean test image')}" if poisoned.test else ""
    say(
        out,
        f"wrote {place}: {held}, {bytes_text(size)}; its card is {place / 'README.md'}",
    )
    protected = int(poisoned.protected.sum())
    if protected < len(poisoned):
        say(out, f"{protected} of {len(poisoned)} images carry the noise; the card and the column "
            "`protected` say which")  # fmt: skip
    say(out, f"train on it: {shlex.join(_command(place, poisoned))}")


def _command(place: Path, poisoned: "PoisonedSet") -> list[str]:
    """Return the command that trains on an export, with the data of the one that made it."""
    given = shlex.split(str(poisoned.facts["command"]))
    data = given[given.index("--dataset") + 1]
    section = f"{data.partition(':')[0]}."
    settings = [word for word in given if word.startswith(section) and "=" in word]
    if poisoned.levels > _USUAL:
        settings.append(f"file.rho_u={poisoned.levels}/255")
    flags = (part for setting in settings for part in ("--set", setting))
    return ["ubench", "run", "--methods", f"file:{place}", "--dataset", data, *flags]
