"""What worker processes have finished, from the events that they send."""

from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.running.executor import Failure, Summary
from unlearnable_bench.running.finished import failed_in, is_done
from unlearnable_bench.running.work import Work
from unlearnable_bench.storage.damage import note


class Tally:
    """The cells of a run that workers have reported.

    Args:
        work: the plan, the results folder and the job.

    Attributes:
        unfinished: keys of the cells that no worker has reported.
        saved: what interrupted workers have saved.
        refused: why a worker refuses the whole work; empty: none does.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._items = {item.key: item for item in work.plan.work}
        self._failures: dict[str, Failure] = {}
        self._computed = 0
        self.unfinished = {*work.job.cells}
        self.saved: list[str] = []
        self.refused = ""

    @property
    def failed(self) -> int:
        """Number of cells that are reported to have failed."""
        return len(self._failures)

    def take(self, event: dict[str, Any]) -> None:
        """Count what an event reports, and show a finished cell."""
        if "done" in event:
            self._done(event["done"])
        elif "failed" in event:
            self.lost(event["failed"], event["reason"], event["trace"])
        elif "saved" in event:
            self.saved += event["saved"]
        elif "refused" in event:
            self.refused = self.refused or event["refused"]
        for line in event.get("damaged", ()):
            note(line)

    def lost(self, key: str, reason: str, trace: str = "") -> None:
        """Count a cell that cannot be finished."""
        self.unfinished.discard(key)
        self._failures[key] = Failure(self._items[key], reason, trace)

    def _done(self, key: str) -> None:
        self._computed += 1
        self.unfinished.discard(key)
        self._failures.pop(key, None)
        try:
            record = self._work.folder.record(key)
        except UserError:  # damaged meanwhile
            return
        if record:
            self._work.screen.done(self._items[key], record)

    def summary(self) -> Summary:
        """Return the outcome, which the folder decides about cells that nobody has reported."""
        folder = self._work.folder
        folder.wait_until_present()
        for key in [*self.unfinished, *self._failures]:
            if is_done(folder, self._items[key]):
                self._failures.pop(key, None)
            elif key not in self._failures:
                found = failed_in(folder, key, self._work.job.id) or {}
                reason = found.get("reason", "no worker is left; run the same command again")
                self.lost(key, reason, found.get("traceback", ""))
        reused = len(self._items) - self._computed - len(self._failures)
        order = [key for key in self._items if key in self._failures]
        return Summary(self._computed, reused, tuple(self._failures[key] for key in order))
