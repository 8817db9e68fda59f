"""What `ubench protect` prints."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.text import Text

from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.planning.plan import Cell, Probe
from unlearnable_bench.protecting.check import described
from unlearnable_bench.protecting.protect import Protected
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.screen.console import loop_progress
from unlearnable_bench.screen.terminal import new_grid, print_grid, say, terminal


@dataclass(frozen=True)
class Screen:
    """Where the progress is shown.

    Attributes:
        out: the terminal.
        progress: display of the loops.
    """

    out: Console
    progress: Progress

    def say(self, text: str) -> None:
        """Print a line."""
        say(self.out, text)

    def done(self, item: Cell | Probe, record: Record | Robustness) -> None:
        """Print a line about a learner of the check."""
        if not (isinstance(item, Cell) and isinstance(record, Record)):
            return
        self.say(f"trained {described(item)}: accuracy {record.test_accuracy:.1f} %")


@contextmanager
def screen() -> Iterator[Screen]:
    """Yield the display of a command."""
    out = terminal()
    with loop_progress(out) as progress:
        yield Screen(out, progress)


def show(found: Protected) -> None:
    """Print the figures of the check, and where the pictures and the report are."""
    out = terminal()
    line = partial(say, out)
    if found.accuracies:
        grid = new_grid(["before training", "learner"], ["originals", "protected", "change"])
        for row in found.accuracies:
            grid.add_row(
                Text(row.view), Text(printable(row.learner)), f"{row.clean:.1f}",
                f"{row.protected:.1f}", f"{row.protected - row.clean:+.1f}",
            )  # fmt: skip
        line(
            "\nAccuracy (%) on held-out originals, after training on the originals and on the "
            "protected pictures:"
        )
        print_grid(out, grid)
        line(found.verdict)
    measures = found.measures
    jpeg = " (JPEG changes more than the noise)" if found.form == "jpeg" else ""
    parts = [f"largest change {measures.largest} levels{jpeg}"]
    parts += [f"PSNR {measures.psnr:.1f} dB"] if measures.psnr is not None else []
    parts += [f"SSIM {measures.ssim:.3f}"] if measures.ssim is not None else []
    parts += [f"LPIPS {measures.lpips:.3f}"] if measures.lpips is not None else []
    line("; ".join(parts))
    if measures.no_lpips:
        line(f"LPIPS was not measured: {measures.no_lpips}")
    earlier = found.count - found.written
    state = f" ({earlier} by an earlier run)" if earlier else ""
    line(f"{found.count} protected pictures{state}: {found.out}")
    line(f"report, not to be published: {found.page}")
