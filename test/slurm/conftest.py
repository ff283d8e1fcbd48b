"""A Slurm cluster of one controller and two nodes on this machine, for the tests of one module."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAMS = ("sbatch", "srun", "slurmctld", "slurmd", "munged")
# Two slurmd with ports of their own are two nodes. Accounting is off, as in Debian's own configuration, and cgroups
# are not asked for. A node is given up soon, and its jobs start again 5 s later (cred_expire; else 2 minutes).
CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdTimeout=5
MessageTimeout=3
KillWait=2
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4096 Gres=gpu:1
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4096 Gres=gpu:1
PartitionName=batch Nodes=ALL Default=YES GraceTime=8
PartitionName=urgent Nodes=ALL PriorityTier=2
"""
GPUS = "Name=gpu File=/dev/zero\n"  # one a node, which Slurm counts and hands out; nothing computes on it


class Cluster:
    """The cluster as a test sees it: it can be asked, and nodes can be lost."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **environment: str) -> None:
        """Start a daemon, which `stop` ends."""
        with (self.folder / "daemons.log").open("a") as log:
            self.daemons.append(subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log))

    def start_node(self, node: str) -> None:
        """Switch a node on."""
        self.start("slurmd", "-D", "-N", node, SLURMD_NODENAME=node)
        self.until(lambda: self.ask("sinfo", "-h", "-n", node, "-o", "%T").split("\n")[0] == "idle", f"idle {node}")

    def ask(self, *command: str) -> str:
        """A Slurm command's output."""
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def until(self, met: Callable[[], object], what: str, seconds: float = 180) -> None:
        """Wait for something, and fail with the controller's log when it does not come."""
        end = time.monotonic() + seconds
        while not met():
            if time.monotonic() > end:
                raise AssertionError(
                    f"no {what} in {seconds} s\n" + (self.folder / "slurmctld.log").read_text()[-5000:]
                )
            time.sleep(0.1)

    def lose(self, node: str, *, jobs: bool = True) -> None:
        """Take a node away without a word: its slurmd, and what it runs as well or not."""
        lost = self._processes(node) if jobs else self._processes(node, "slurmd")
        for number in (signal.SIGSTOP, signal.SIGKILL):  # all are stopped before one can report another's end
            for pid in lost:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def works_on(self, node: str) -> bool:
        """Whether anything of a job is alive on a node."""
        return bool(self._processes(node))

    def stop(self) -> None:
        """End all daemons and jobs of this cluster."""
        for node in ("node1", "node2"):
            self.lose(node)
        for daemon in self.daemons:
            daemon.terminate()
            daemon.wait(10)

    def _processes(self, node: str = "", name: str = "") -> set[int]:
        """What runs with this cluster's configuration; the slurmstepd above a job is known by its child alone."""
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                if f"SLURM_CONF={self.folder}/slurm.conf" not in variables or int(process.name) == os.getpid():
                    continue
                if node and f"SLURMD_NODENAME={node}" not in variables:
                    continue
                fields = (process / "stat").read_text()
                if name in fields[: fields.rindex(")")]:
                    found.add(int(process.name))
                parent = Path("/proc") / fields[fields.rindex(")") :].split()[2]
                if not name and (parent / "comm").read_text().startswith("slurmstepd"):
                    found.add(int(parent.name))
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a controller and two nodes with a munged of their own; nothing of the machine's own Slurm is touched."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on the PATH: apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    names = {"host": socket.gethostname().split(".")[0], "user": pwd.getpwuid(os.getuid()).pw_name}
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, ports=ports, **names))
    (folder / "gres.conf").write_text(GPUS)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        here = Cluster(folder)
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        try:
            here.start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
            here.until((folder / "munge.socket").exists, "munged", 10)
            here.start("slurmctld", "-D")
            here.start_node("node1")
            here.start_node("node2")
            yield here
        finally:
            here.stop()


@pytest.fixture(scope="module", autouse=True)
def _same_sums() -> Iterator[None]:
    """Sums in the same order, however many cores there are, and on the CPU also where there is a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield
