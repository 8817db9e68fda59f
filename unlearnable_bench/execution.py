"""The contract of executors, which compute the cells of a plan on one machine or many."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearnable_bench.contract import Plugin

if TYPE_CHECKING:
    from unlearnable_bench.running.executor import Summary
    from unlearnable_bench.running.work import Job, Work


@dataclass(frozen=True, kw_only=True)
class Executor(Plugin, ABC):
    """Where the missing cells of a plan are computed: by worker processes that it starts.

    It need not divide the work: workers take the cells that are free, by locks in the results
    folder, which they share. Its options say where it runs and are part of no key.

    Attributes:
        remote: whether its workers run on other machines.
        detached: whether cells are computed after `run` has returned, which then returns None.

    Examples:
        >>> from dataclasses import dataclass
        >>> from unlearnable_bench import Executor
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Here(Executor):
        ...     '''This process.'''
        ...
        ...     def described(self, device):
        ...         return f"this process, on {device}"
        ...
        ...     def run(self, work):
        ...         return work.here()
        >>> Here().described("CPU")
        'this process, on CPU'
    """

    remote: ClassVar[bool] = False
    detached: ClassVar[bool] = False

    def worker_device(self) -> str | None:
        """Return the device of its workers, `cpu` or `cuda`; None: as without an executor."""
        return None

    def check(self) -> None:
        """Refuse what cannot work, before data is loaded.

        Raises:
            UserError: an option has an invalid value, or this machine lacks what it takes.
        """

    @abstractmethod
    def described(self, device: str) -> str:
        """Return where it computes, for the printed plan.

        Args:
            device: name of the device that this machine would use.

        Raises:
            UserError: it cannot run here.
        """

    def dry_run(self, job: "Job") -> str:
        """Return what `--dry-run` prints below the plan, such as a batch script."""
        return ""

    @abstractmethod
    def run(self, work: "Work") -> "Summary | None":
        """Compute the missing cells, which are at least one.

        Args:
            work: the plan, the results folder, and the job that workers take from standard input
                or a file (`running.processes.worker_command`).

        Returns:
            The outcome; None if the cells are computed after this process has ended.

        Raises:
            UserError: the work cannot be begun or finished.
        """
