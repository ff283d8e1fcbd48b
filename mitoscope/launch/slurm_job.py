"""Work as a Slurm job: its reaction to Slurm's signals, and which of its starts may continue."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from submitit.core.utils import DelayedSubmission

from mitoscope.command import run_command
from mitoscope.launch.job import Job

HOLDER = "slurm_job"
WATCH_S = 5.0


@dataclass(frozen=True)
class SlurmJob:
    """A job that submitit unpickles and calls on a node; each call resumes it.

    The job runs in submitit's own process, not in a child: Slurm signals all processes of a job at once. The signal
    that asks the parent to requeue would end the child, which would look like a job that failed.

    Attributes:
        job: With absolute paths, since the node starts in another folder.
    """

    job: Job

    def __call__(self) -> None:
        """Do the work. After SIGTERM, wait until Slurm ends the job.

        Raises:
            SystemExit: The job failed; its one-line message is in the log.
        """
        _hold(self.job.folder)
        try:
            code = run_command(self.job.run, self.job.extra)
        except SystemExit as stop:
            if stop.code != 128 + signal.SIGTERM:
                raise
            # SIGTERM is sent when a job is pre-empted, cancelled or requeued. A job that ends by itself now counts as
            # failed; one that Slurm kills, after the grace time, is requeued if it should be.
            while True:
                signal.pause()
        if code:
            raise SystemExit(code)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues on SIGUSR2, 90 s before the time limit: the same job."""
        return DelayedSubmission(self)


def _hold(folder: Path) -> None:
    """Record which start of which job owns its folder; an earlier start that is still alive then ends itself.

    Slurm gives up a node whose slurmd does not answer and starts its jobs elsewhere, but their processes may still run.
    """
    start = f"{os.environ['SLURM_JOB_ID']}, restart {os.environ.get('SLURM_RESTART_COUNT', '0')}"
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / HOLDER
    held = holder.is_file()
    holder.write_text(start, encoding="utf-8")
    if held:
        time.sleep(2 * WATCH_S)
    Thread(target=_watch, args=(holder, start), daemon=True).start()


def _watch(holder: Path, start: str) -> None:
    """End this process when a later start owns the folder."""
    while True:
        time.sleep(WATCH_S)
        with contextlib.suppress(OSError):  # a network file system may fail for a moment
            if holder.read_text(encoding="utf-8") != start:
                print("another start of this job owns its folder now: stopping", flush=True)
                os._exit(1)
