"""Text that cannot be written never ends the work, and is readable in every encoding."""

import errno
import io
import os
import sys
import threading
from pathlib import Path

import processes
import pytest
from commands import QUICK, Command, run_tiny

from unlearnable_bench.screen import streams

RANDOM = ("run", *QUICK, "--methods", "random", "--rho-a", "0,1/255", "--set", "small-cnn.width=4")


def started(workplace: Path, *arguments: str) -> list[int | None]:
    data = ("--dataset", f"npz:{workplace / 'tiny.npz'}", "--out", str(workplace / "out"))
    process = processes.start(*RANDOM, *data, *arguments, output=workplace / "log")
    return processes.finish(process)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_all_cells_are_computed_if_the_log_is_full(workplace: Path, stream: str) -> None:
    ending = {"stdout": ".out", "stderr": ".err"}
    (workplace / f"log{ending[stream]}").symlink_to("/dev/full")
    # A damaged record, so that there is something to write on stderr.
    assert started(workplace) == [2 if stream == "stdout" else 0]
    assert len(list(workplace.glob("out/cells/*.json"))) == 4
    if stream == "stdout":
        assert (workplace / "log.err").read_text() == (
            "ubench: text was lost: stdout cannot be written (No space left on device)\n"
        )


def test_all_cells_are_computed_if_the_reader_leaves(workplace: Path) -> None:
    """As `| head -1` does: the rest is not wanted, so that nothing is wrong."""
    os.mkfifo(workplace / "log.out")

    def read_one_line() -> None:
        with (workplace / "log.out").open() as pipe:
            pipe.readline()

    reader = threading.Thread(target=read_one_line)
    reader.start()
    assert started(workplace) == [0]
    reader.join()
    assert len(list(workplace.glob("out/cells/*.json"))) == 4
    assert (workplace / "log.err").read_text() == ""


@pytest.mark.parametrize(
    "command", [("list", "attacks"), ("report", "results"), ("compare", "results", "results")]
)
def test_every_command_has_an_exit_code_for_a_full_disk(
    ubench: Command, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Full(), encoding="utf-8"))
    result = ubench(*command)
    assert result.code == 2
    assert result.err.endswith(
        "text was lost: stdout cannot be written (No space left on device)\n"
    )


def test_tables_are_readable_in_ascii(ubench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert ubench(*run_tiny("--methods", "random", "--seeds", "0,1")).code == 0
    lines = written.getvalue().decode("ascii").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert any(" +/- " in line for line in table)
    assert len({len(line) for line in table}) == 1
    written.truncate(0)
    assert ubench("report", "out").code == 0
    assert b" +/- " in written.getvalue()


def test_missing_streams_are_no_error(ubench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert ubench("list", "attacks").code == 0
    assert ubench("list", "nothing").code == 2


def test_a_slow_reader_gets_everything() -> None:
    class Slow(io.BytesIO):
        calls = 0

        def write(self, data: object) -> int | None:  # type: ignore[override]
            self.calls += 1
            return super().write(bytes(data)[:3]) if self.calls % 2 else None  # type: ignore[call-overload]

    target = Slow()
    output = streams.Output(target, "stdout")
    with io.BufferedWriter(output) as text:
        text.write(b"eight by")
    assert target.getvalue() == b"eight by"
    assert output.lost == ""
