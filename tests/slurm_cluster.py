"""A Slurm of one node on the loopback interface, in a temporary folder, with Debian's packages."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unlearnable_bench import cli

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# cred_expire and the intervals: a requeued job is eligible after seconds instead of two minutes.
CONF = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/ctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SlurmdParameters=config_overrides
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=localhost Port={ports[1]} CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def submit(conf: Path, folder: Path, arguments: tuple[str, ...]) -> None:
    """Run `ubench` in a folder, with a cluster's configuration; for a process of its own."""
    os.chdir(folder)
    os.environ["SLURM_CONF"] = str(conf)
    sys.argv = ["ubench", *arguments]
    cli.main()


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if not shutil.which(name, path=_PATH)]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


@dataclass(frozen=True)
class Cluster:
    """A running Slurm.

    Attributes:
        folder: its configuration, state and logs.
    """

    folder: Path

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def call(self, *command: str) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(
            command,
            env=os.environ | {"SLURM_CONF": str(self.conf), "PATH": _PATH},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}{self.log()}"
        return done.stdout.strip()

    def tasks(self) -> dict[str, str]:
        """Return the state of each task that waits or runs, by `ARRAY_TASK`."""
        lines = self.call("squeue", "--noheader", "--array", "--format=%F_%K %T").splitlines()
        return {name: state for name, _, state in (line.partition(" ") for line in lines)}

    def log(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.folder.glob("log/*"))


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """Start a Slurm, and end it."""
    cluster = Cluster(folder)
    for name in ("state", "spool/n1", "log", "munge"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    text = CONF.format(folder=folder, ports=_free_ports(2), user=getpass.getuser())
    cluster.conf.write_text(text)
    munge = [
        "munged", "--foreground", "--force", f"--socket={folder}/munge/sock", f"--key-file={key}",
        "--pid-file=", "--log-file=", "--seed-file=", "--num-threads=1",
    ]  # fmt: skip
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        daemons.append(_daemon(folder, *munge))
        wait_for((folder / "munge" / "sock").exists, "munged", 20)
        daemons.append(_daemon(folder, "slurmctld", "-D", "-c", "-f", str(cluster.conf)))
        daemons.append(_daemon(folder, "slurmd", "-D", "-c", "-N", "n1", "-f", str(cluster.conf)))
        wait_for(lambda: cluster.call("sinfo", "-h", "-o", "%T") == "idle", "the node", 30)
        yield cluster
        # A daemon that is ended while a job runs may leave that job's processes behind.
        for task in cluster.tasks():
            cluster.call("scancel", task)
        wait_for(lambda: not cluster.tasks(), "an empty queue", 60)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _daemon(folder: Path, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
    path = shutil.which(program, path=_PATH)
    assert path
    with (folder / "log" / f"{program}.out").open("wb") as output:
        return subprocess.Popen(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _PATH},
            start_new_session=True,
        )


def _free_ports(number: int) -> list[int]:
    """Return ports of the loopback interface that nobody uses now."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
