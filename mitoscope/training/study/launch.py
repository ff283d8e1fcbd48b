"""Fits on this machine: each in a process of its own, as many at once as there are GPUs or cores."""

import os
import subprocess
import sys
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from threading import Lock

import torch

from mitoscope.errors import DataError
from mitoscope.provenance import PACKAGE
from mitoscope.training.marks import DONE

ROOT = PACKAGE.parent  # where `python -m mitoscope` finds the package, in a checkout and where it is installed


@dataclass(frozen=True)
class FitJob:
    """One member to be fitted by ``mitoscope train fit``. A second run resumes it, or does nothing if it is finished.

    Attributes:
        data: The data folder.
        folds: The fold file.
        fold: Which member.
        out: The member's own folder.
        preset: Name of the preset.
        settings: ``key=value`` changes to it.
    """

    data: Path
    folds: Path
    fold: int
    out: Path
    preset: str
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The study's folder and the fold, for the log."""
        return f"{self.folds.parent.name} fold {self.fold}"

    @property
    def folder(self) -> Path:
        """As `mitoscope.launch.job.Job` has it, like the next three."""
        return self.out

    @property
    def result(self) -> Path:
        """The mark of a finished member."""
        return self.out / DONE

    @property
    def extra(self) -> str:
        """The extra of the package."""
        return "train"

    def run(self) -> None:
        """Fit the member in this process."""
        from mitoscope.training.fit import fit_member  # here: it imports Lightning

        fit_member(self.data, self.folds, self.fold, self.out, self.preset, self.settings)

    def absolute(self) -> "FitJob":
        """The same job with absolute paths."""
        return replace(self, data=self.data.resolve(), folds=self.folds.resolve(), out=self.out.resolve())

    @property
    def command(self) -> list[str]:
        """The command line of its process; all paths are absolute."""
        job = self.absolute()
        command = [sys.executable, "-m", "mitoscope", "train", "fit", "--data", str(job.data)]
        command += ["--folds", str(job.folds), "--fold", str(job.fold), "--out", str(job.out)]
        return [*command, "--preset", job.preset, *(word for text in job.settings for word in ("--set", text))]


def run_local(jobs: list[FitJob], workers: int = 0) -> None:
    """Fit on this machine. When one job fails, or the user stops the study, the others stop too.

    Args:
        jobs: What to fit.
        workers: Jobs at once. 0: one per GPU, else one per core: two processes with one thread each do twice as much
            as one process with two threads.

    Raises:
        DataError: A job failed; the message holds its last line.
    """
    workers = workers or torch.cuda.device_count() or min(len(jobs), _cores())
    pool, here = ThreadPoolExecutor(workers), _Running()
    for device in _devices(workers):
        here.devices.put(device)
    threads = str(max(1, _cores() // workers))
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    try:
        started = [pool.submit(_run_job, job, environment, here) for job in jobs]
        wait(started, return_when=FIRST_EXCEPTION)
        for future in started:
            if future.done():
                future.result()
    finally:
        here.stop()
        pool.shutdown(cancel_futures=True)


class _Running:
    """The processes of one study and the free devices, shared by the threads that watch the processes."""

    def __init__(self) -> None:
        self.devices: Queue[str] = Queue()
        self.lock, self.stopped = Lock(), False
        self.processes: set[subprocess.Popen[str]] = set()

    def start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[str] | None:
        """Start a process, unless the study has been stopped."""
        with self.lock:
            if self.stopped:
                return None
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self.processes.add(process)
        return process

    def stop(self) -> None:
        """Start no more processes, and terminate those that run."""
        with self.lock:
            self.stopped = True
            for process in self.processes:
                process.terminate()


def _run_job(job: FitJob, environment: dict[str, str], here: _Running) -> None:
    """Run one job on a free device; print its lines with the job's name in front."""
    device = here.devices.get()
    process = here.start(job.command, {**environment, **({"CUDA_VISIBLE_DEVICES": device} if device else {})})
    if process is None:
        here.devices.put(device)
        return
    last = ""
    try:
        with process:  # waits, and closes the pipe
            for line in process.stdout or ():
                if line.strip():
                    print(
                        f"{job.name} | {line.rstrip()}\n", end="", flush=True
                    )  # one write: lines of two jobs do not mix
                    last = line.strip()
    finally:
        here.devices.put(device)
    if process.returncode:
        raise DataError(
            f"{job.name} failed",
            got=f"exit code {process.returncode} after {last!r}",
            expected="exit code 0",
            remedy="fix the cause, then run the same command again",
        )


def _devices(workers: int) -> list[str]:
    """The GPU of each worker, one of those that this process may use; "" for the CPU."""
    granted = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    gpus = granted.split(",") if torch.cuda.is_available() else [""]
    return [gpus[worker % len(gpus)] for worker in range(workers)]


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))
