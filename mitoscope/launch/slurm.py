"""Jobs on a cluster: one Slurm job array, whose jobs are requeued and resume when they are interrupted.

Only the queue is read, never ``sacct``: a small cluster has no accounting database. A job that has left the queue has
failed unless its result and submitit's exist.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from mitoscope.errors import DataError
from mitoscope.files import read_object, write_json
from mitoscope.launch.job import Job, Resources
from mitoscope.launch.slurm_job import SlurmJob
from mitoscope.provenance import PACKAGE

QUEUE = "queue.json"
TIME_LIMITS = 20  # times that a job may reach its time limit; if it needs more, it does not get on within the limit


def run_slurm(
    jobs: Sequence[Job], logs: Path, resources: Resources, max_parallel: int = 0, poll_s: float = 15.0
) -> None:
    """As `list_failures`, but the first failure is raised when all have ended."""
    for failure in list_failures(jobs, logs, resources, max_parallel, poll_s).values():
        raise failure


def list_failures(
    jobs: Sequence[Job], logs: Path, resources: Resources, max_parallel: int = 0, poll_s: float = 15.0
) -> dict[Job, DataError]:
    """Submit the jobs that are not in the queue, and wait until all have left it.

    The jobs do not need this process: they continue when it ends, and when it is started again it waits for them. One
    that fails does not stop the others.

    Args:
        jobs: What to do.
        logs: A folder that the nodes share, for the jobs' logs and for queue.json: of each job the last number and a
            hash of its settings.
        resources: Of each job.
        max_parallel: Jobs at once; 0: no limit.
        poll_s: Seconds between two reads of the queue.

    Returns:
        The jobs that failed; the message holds a job's last line.

    Raises:
        DataError: There is no Slurm here, it refuses the jobs, or a job of other settings is still in its queue.
        SystemExit: The user stopped waiting.
    """
    if not (shutil.which("sbatch") and shutil.which("squeue") and shutil.which("srun")):
        raise DataError(
            "--launcher slurm needs Slurm",
            got="no sbatch, squeue and srun on the PATH",
            expected="a login node of a Slurm cluster",
            remedy="run the command there, or use --launcher local",
        )
    known = read_object(logs / QUEUE, f"delete {logs / QUEUE}") if (logs / QUEUE).is_file() else {}
    queued = _find_queued(jobs, known)
    others = [job for job in jobs if job not in queued]
    failures = dict[Job, DataError]()
    try:
        if queued:  # before the others are submitted: max_parallel counts both
            failures |= _wait(queued, logs, poll_s)
        if others:
            queued = _submit(others, logs, resources, max_parallel)
            write_json(logs / QUEUE, known | {_key(job): [number, hash_job(job)] for job, number in queued.items()})
            failures |= _wait(queued, logs, poll_s)
    except KeyboardInterrupt:
        print("\nstopped waiting; the jobs continue. The same command waits for them again; scancel stops them")
        raise SystemExit(130) from None
    return failures


def _key(job: Job) -> str:
    """The name of a job in queue.json."""
    return str(job.folder.resolve())


def hash_job(job: Job) -> str:
    """Equal for jobs that do the same: a job is a frozen data class of numbers, names and paths."""
    return hashlib.sha256(repr(job).encode()).hexdigest()


def _find_queued(jobs: Sequence[Job], known: Mapping[str, Any]) -> dict[Job, str]:
    """The numbers of the jobs that are still in the queue; `known` is queue.json."""
    queue, queued = _queue(), dict[Job, str]()
    for job in jobs:
        entry = known.get(_key(job))
        number, settings = entry if isinstance(entry, list) else (entry, None)  # 0.1 wrote the number alone
        if number not in queue:
            continue
        if settings != hash_job(job):
            raise DataError(
                f"{job.name} is in Slurm's queue already",
                got=f"job {number} with other or unknown settings",
                expected="none, or one with the same settings",
                remedy=f"wait until it has ended, or stop it with scancel {number}; or choose another --out",
            )
        queued[job] = number
    return queued


def _submit(jobs: Sequence[Job], logs: Path, resources: Resources, max_parallel: int) -> dict[Job, str]:
    """Submit one array of all jobs; returns the number of each."""
    executor = submitit.SlurmExecutor(logs, max_num_timeout=TIME_LIMITS)
    executor.update_parameters(
        job_name=f"mitoscope-{logs.resolve().parent.name}",
        **resources.sbatch(),
        ntasks_per_node=1,
        array_parallelism=max_parallel or len(jobs),
        # since Slurm 22.05 srun ignores the job's --cpus-per-task, and would bind the job to one core
        srun_args=[f"--cpus-per-task={resources.cpus_per_task}"],
        stderr_to_stdout=True,
        setup=[f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{resources.cpus_per_task}}}"],
        additional_parameters={"requeue": True, "chdir": str(PACKAGE.parent)},
    )
    try:
        submitted = executor.submit_array([SlurmJob(job) for job in jobs])
    except FailedJobError as error:
        raise DataError(
            "Slurm refuses the jobs",
            got=error,
            expected="a job array in the queue",
            remedy="correct --slurm KEY=VALUE; gpus_per_node=0 where there is no GPU",
        ) from error
    return {job: slurm_job.job_id for job, slurm_job in zip(jobs, submitted, strict=True)}


def _queue() -> dict[str, str]:
    """This user's jobs by number: the state, and the node or the reason to wait. Jobs that have ended are missing.

    Raises:
        DataError: Slurm does not answer.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    command = ["squeue", f"--user={os.getuid()}", "--noheader", "--array", "--format=%i %T %R"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise DataError(
            "squeue does not answer",
            got=answer.stderr.strip(),
            expected="the queue",
            remedy="when Slurm is back, run the same command again",
        )
    return {number: state for number, _, state in (line.partition(" ") for line in answer.stdout.splitlines())}


def _patient_queue(poll_s: float) -> dict[str, str]:
    """The queue, read again until Slurm answers: its controller may be down for hours while the jobs continue."""
    printed = ""
    while True:
        try:
            return _queue()
        except DataError as error:
            if printed != str(error):
                printed = str(error)
                print(f"{printed}; trying again", flush=True)
            time.sleep(poll_s)


def _wait(queued: dict[Job, str], logs: Path, poll_s: float) -> dict[Job, DataError]:
    """Print the state of the jobs until all have left the queue; returns those that failed."""
    arrays = " ".join(sorted({number.split("_")[0] for number in queued.values()}))
    print(f"in Slurm's queue as job {arrays}: {len(queued)} jobs, logs in {logs}. They continue without this process; "
          f"the same command waits for them again, scancel {arrays} stops them", flush=True)  # fmt: skip
    waiting, shown, failures = dict(queued), dict[Job, str](), dict[Job, DataError]()
    while waiting:
        queue = _patient_queue(poll_s)
        for job, number in list(waiting.items()):
            state = queue.get(number, "finished")
            if number not in queue:
                del waiting[job]
                if not _is_finished(job, logs / f"{number}_0_result.pkl"):
                    failures[job] = _failure(job, logs / f"{number}_0_log.out")
                    state = f"failed: {failures[job].got}"
            if state != shown.get(job):
                print(f"{job.name} | {state}", flush=True)
                shown[job] = state
        if waiting:
            time.sleep(poll_s)
    return failures


def _is_finished(job: Job, result: Path) -> bool:
    """Whether the result exists, which may be another job's, and this job ended without an error."""
    for folder in (job.result.parent, result.parent):
        with contextlib.suppress(OSError):  # touching a folder's mode makes a network file system look again
            folder.chmod(folder.stat().st_mode)
    return job.result.is_file() and result.is_file()


def _failure(job: Job, log: Path) -> DataError:
    """The error of a job that left the queue unfinished, with its last line; srun's own last line adds nothing."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    shown = [line.strip() for line in lines if line.strip() and "Exited with exit code" not in line]
    return DataError(
        f"{job.name} failed",
        got=shown[-1] if shown else "no line",
        expected=str(job.result),
        remedy=f"read {log}, fix the cause, then run the same command again",
    )
