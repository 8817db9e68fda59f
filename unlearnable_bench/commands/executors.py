"""The executor that the options of `ubench run` choose."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnable_bench.errors import UserError

if TYPE_CHECKING:
    from unlearnable_bench.execution import Executor
    from unlearnable_bench.running.work import Job


def chosen_executor(
    name: str | None,
    settings: dict[str, str],
    *,
    gpus: str | None = None,
    workers: int | None = None,
    shard: int | None = None,
    ray_address: str | None = None,
    device: str = "",
) -> "Executor | None":
    """Return the executor of a run; None: this process computes.

    Args:
        name: its name; None: the one that the other options imply.
        settings: settings of `--set`; those of executors are removed.
        gpus: cards for one worker process each.
        workers: number of worker processes.
        shard: number of GPUs that divide each noise generation; 1: none does.
        ray_address: address of a Ray cluster.
        device: the option `--device`.

    Raises:
        UserError: an unknown executor or option, or options that contradict each other.
    """
    from unlearnable_bench.planning.registry import executors

    implied: dict[str, tuple[str, Any]] = {
        owner: (option, value)
        for owner, option, value in (
            ("gpus", "cards", gpus), ("local", "workers", workers), ("ray", "address", ray_address),
            ("shard", "cards", None if shard == 1 else shard),
        )
        if value is not None
    }  # fmt: skip
    own = {
        key: settings.pop(key) for key in [*settings] if key.partition(".")[0] in executors.names()
    }
    if name is None and not implied:
        name, implied = _usual(device)
        implied = {} if own else implied
        if name == "local" and not own:
            return None
    name = name or next(iter(implied))
    if len(implied) > 1:
        raise UserError(f"give one of {' and '.join(_FLAGS[one] for one in implied)}")
    options = {}
    for owner, (option, value) in implied.items():
        if owner != name:
            raise UserError(f"{_FLAGS[owner]} does not fit --executor {name}; give one of them")
        options[option] = value
    for key, value in own.items():
        owner, _, option = key.partition(".")
        if owner != name:
            raise UserError(f"--set {key}: add --executor {owner}, or leave it out")
        if option in options:
            raise UserError(
                f"{_FLAGS[owner]} and --set {key} set the same option; give one of them"
            )
        options[option] = value
    options |= _ON_CPU.get((name, device), {})
    executor = executors.choose(name, options).plugin
    if device and executor.worker_device():
        raise UserError(f"--device {device} does not fit --executor {name}, which chooses devices")
    executor.check()
    return None if name == "local" and options.get("workers", "1") in (1, "1") else executor


# Of `--device`, where an executor asks for it.
_ON_CPU = {("shard", "cpu"): {"on_cpu": True}}
_FLAGS = {"gpus": "--gpus", "local": "--workers", "ray": "--ray-address", "shard": "--shard"}


def _usual(device: str) -> tuple[str, dict[str, tuple[str, Any]]]:
    """Return the executor if no option names one, and what that implies.

    On GPUs these are worker processes, also on one, because a worker that a driver has deadlocked
    is replaced, where this process would hang.
    """
    import torch

    from unlearnable_bench.executors.gpus import visible_cards

    if device or not torch.cuda.is_available():
        return "local", {}
    cards = visible_cards()
    if len(cards) == 1:  # also if it is in use, as a screen's card is
        return "gpus", {"gpus": ("cards", "0")}
    return ("gpus" if cards else "local"), {}


def job_of(
    keys: list[str],
    *,
    out: Path,
    options: dict[str, Any],
    plugins: list[Path],
    device: str,
    pack: int | None,
    threads: int | None,
    stall: tuple[str, float] | None = None,
    keep_learners: bool = False,
) -> "Job":
    """Return the job of the missing cells with these keys; the other arguments as in `Job`."""
    from unlearnable_bench.running.work import Job, absolute, new_job_id

    return Job(
        id=new_job_id(),
        out=absolute(out),
        folder=str(Path.cwd()),
        options=options,
        plugins=[absolute(path) for path in plugins],
        device=device,
        pack=pack,
        threads=threads,
        cells=keys,
        stall=stall,
        keep_learners=keep_learners,
    )
