"""A fit as a Slurm job: its resources, its reaction to Slurm's signals, and which of its starts may continue."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from submitit.core.utils import DelayedSubmission

from mitoscope.command import run_command
from mitoscope.training.fit import fit_member
from mitoscope.training.settings import check_ranges
from mitoscope.training.study.launch import FitJob

HOLDER = "slurm_job"
WATCH_S = 5.0


@dataclass(frozen=True)
class Resources:
    """Resources of one fit. Other options are set by sbatch's own variables, such as SBATCH_RESERVATION.

    Attributes:
        partition: Empty, here and in the next three: the cluster's default.
        account: The account that is charged.
        qos: Quality of service.
        constraint: Features of the node, e.g. the kind of GPU.
        time_min: Limit of one run in minutes. A fit that needs more is requeued and resumes.
        gpus_per_node: 1, or 0 to fit on the CPU.
        cpus_per_task: Cores, and threads.
        mem_gb: Main memory.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time_min: int = 24 * 60
    gpus_per_node: int = 1
    cpus_per_task: int = 4
    mem_gb: float = 16.0

    def __post_init__(self) -> None:
        rules = {
            "time_min": self.time_min >= 3,  # Slurm signals the fit 90 to 150 s before the limit
            "gpus_per_node": self.gpus_per_node in (0, 1),
            "cpus_per_task": self.cpus_per_task >= 1,
            "mem_gb": self.mem_gb > 0,
        }
        check_ranges(self, rules, "the Slurm setting", "--slurm")

    def sbatch(self) -> dict[str, str | int]:
        """The options that are set, by submitit's names."""
        options: dict[str, str | int] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "time": self.time_min,
            "gpus_per_node": self.gpus_per_node,
            "cpus_per_task": self.cpus_per_task,
            "mem": f"{round(self.mem_gb * 1024)}M",
        }
        return {name: value for name, value in options.items() if value}


@dataclass(frozen=True)
class SlurmFit:
    """A fit that submitit unpickles and calls on a node; each call resumes from ``last.ckpt``.

    The fit runs in submitit's own process, not in a child: Slurm signals all processes of a job at once. The signal
    that asks the parent to requeue would end the child, which would look like a fit that failed.

    Attributes:
        job: With absolute paths, since the node starts in another folder.
    """

    job: FitJob

    def __call__(self) -> None:
        """Fit. After SIGTERM, wait until Slurm ends the job.

        Raises:
            SystemExit: The fit failed; its one-line message is in the log.
        """
        _hold(self.job.out)
        try:
            code = run_command(self._fit, "train")
        except SystemExit as stop:
            if stop.code != 128 + signal.SIGTERM:
                raise
            # SIGTERM is sent when a job is pre-empted, cancelled or requeued. A job that ends by itself now counts as
            # failed; one that Slurm kills, after the grace time, is requeued if it should be.
            while True:
                signal.pause()
        if code:
            raise SystemExit(code)

    def _fit(self) -> None:
        """Fit the member."""
        job = self.job
        fit_member(job.data, job.folds, job.fold, job.out, job.preset, job.settings)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues on SIGUSR2, 90 s before the time limit: the same fit."""
        return DelayedSubmission(self)


def _hold(run: Path) -> None:
    """Record which start of which job owns the run folder; an earlier start that is still alive then ends itself.

    Slurm gives up a node whose slurmd does not answer and starts its jobs elsewhere, but their processes may still run.
    """
    start = f"{os.environ['SLURM_JOB_ID']}, restart {os.environ.get('SLURM_RESTART_COUNT', '0')}"
    run.mkdir(parents=True, exist_ok=True)
    holder = run / HOLDER
    held = holder.is_file()
    holder.write_text(start, encoding="utf-8")
    if held:
        time.sleep(2 * WATCH_S)
    Thread(target=_watch, args=(holder, start), daemon=True).start()


def _watch(holder: Path, start: str) -> None:
    """End this process when a later start owns the run folder."""
    while True:
        time.sleep(WATCH_S)
        with contextlib.suppress(OSError):  # a network file system may fail for a moment
            if holder.read_text(encoding="utf-8") != start:
                print("another start of this fit owns its folder now: stopping", flush=True)
                os._exit(1)
