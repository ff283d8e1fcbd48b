"""The launcher with stand-ins for sbatch and squeue; test/slurm has the real ones."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mitoscope.errors import DataError
from mitoscope.launch.job import Resources
from mitoscope.launch.slurm import hash_job, run_slurm
from mitoscope.training.study.launch import ROOT, FitJob

# What the queue says comes from the lines of a file, one a call, jobs separated by ";"; "down" is no answer.
STAND_INS = {
    "srun": "exit 1",
    "sbatch": 'cp "$1" "$FOLDER/submitted.$(ls "$FOLDER" | grep -c submitted)"; echo Submitted batch job 7',
    "squeue": 'line=$(head -n 1 "$FOLDER/queue"); sed -i 1d "$FOLDER/queue"\n'
    'if [ "$line" = down ]; then echo controller is away >&2; exit 1; fi\necho "$line" | tr ";" "\\n"',
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-ins' folder: takes what is submitted, and the file ``queue``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/sh\nFOLDER={folder}\n{script}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def make_jobs(study: Path, n: int) -> list[FitJob]:
    return [FitJob(study, study / "folds.json", fold, study / f"fold{fold}", "smoke", ()) for fold in range(n)]


def finish(job: FitJob, logs: Path, number: str) -> None:
    for path in (job.out / "done.json", logs / f"{number}_0_result.pkl"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_queue(logs: Path, numbers: dict[FitJob, str]) -> None:
    """What an earlier command left."""
    (logs / "queue.json").write_text(
        json.dumps({str(job.out): [number, hash_job(job)] for job, number in numbers.items()})
    )


def test_all_fits_are_one_array(slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs, jobs = tmp_path / "study" / "slurm", make_jobs(tmp_path / "study", 3)
    for fold, job in enumerate(jobs):
        finish(job, logs, f"7_{fold}")
    (slurm / "queue").write_text("\n7_0 RUNNING node1;7_1 PENDING (Resources);7_2 PENDING (Resources)\n")
    run_slurm(jobs, logs, Resources(account="lab", mem_gb=1.5, cpus_per_task=3), max_parallel=2, poll_s=0)
    script = (slurm / "submitted.0").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, re.MULTILINE))
    assert options["array"] == "0-2%2"
    assert options["job-name"] == "mitoscope-study"
    assert (options["account"], options["mem"], options["time"]) == ("lab", "1536M", "1440")
    assert (options["gpus-per-node"], options["cpus-per-task"], options["ntasks-per-node"]) == ("1", "3", "1")
    assert (options["requeue"], options["chdir"], options["open-mode"]) == ("", str(ROOT), "append")
    assert options["signal"] == "USR2@90"
    assert not {"partition", "qos", "constraint"} & options.keys()
    assert "--cpus-per-task=3" in next(line for line in script.splitlines() if line.startswith("srun"))
    assert not (slurm / "submitted.1").exists()
    queue = json.loads((logs / "queue.json").read_text())
    assert {folder: number for folder, (number, _) in queue.items()} == {
        str(job.out): f"7_{fold}" for fold, job in enumerate(jobs)
    }
    shown = capsys.readouterr().out
    assert "scancel 7" in shown
    assert "study fold 1 | PENDING (Resources)\n" in shown
    assert shown.count("| finished") == 3


def test_what_is_in_the_queue_is_waited_for_before_the_rest_is_submitted(
    slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, jobs = tmp_path / "study" / "slurm", make_jobs(tmp_path / "study", 3)
    logs.mkdir(parents=True)
    write_queue(logs, {jobs[0]: "5_0", jobs[1]: "5_1"})
    finish(jobs[0], logs, "5_0")
    finish(jobs[1], logs, "7_0")
    finish(jobs[2], logs, "7_1")
    (slurm / "queue").write_text("5_0 RUNNING node1;55_1 RUNNING node1\n5_0 RUNNING node1\n\n")
    run_slurm(jobs, logs, Resources(), poll_s=0)
    shown = capsys.readouterr().out
    assert shown.index("study fold 0 | finished") < shown.index("as job 7")
    assert "--array=0-1%2" in (slurm / "submitted.0").read_text()
    queue = json.loads((logs / "queue.json").read_text())
    assert {folder: number for folder, (number, _) in queue.items()} == {
        str(job.out): number for job, number in zip(jobs, ("5_0", "7_0", "7_1"), strict=True)
    }


def test_fits_that_are_all_in_the_queue_are_not_put_there_again(slurm: Path, tmp_path: Path) -> None:
    logs, jobs = tmp_path / "study" / "slurm", make_jobs(tmp_path / "study", 2)
    for fold, job in enumerate(jobs):
        finish(job, logs, f"5_{fold}")
    write_queue(logs, {job: f"5_{job.fold}" for job in jobs})
    (slurm / "queue").write_text("5_0 RUNNING node1;5_1 PENDING (Priority)\n")
    run_slurm(jobs, logs, Resources(), poll_s=0)
    assert not (slurm / "submitted.0").exists()


def test_a_job_of_other_settings_is_not_waited_for_as_if_it_were_this_one(slurm: Path, tmp_path: Path) -> None:
    logs, jobs = tmp_path / "study" / "slurm", make_jobs(tmp_path / "study", 2)
    logs.mkdir(parents=True)
    write_queue(logs, {jobs[0]: "5_0"})
    (slurm / "queue").write_text("5_0 RUNNING node1\n")
    others = [replace(job, settings=("epochs=9",)) for job in jobs]
    with pytest.raises(DataError, match="study fold 0 is in Slurm's queue already: got job 5_0 with other or unknown"):
        run_slurm(others, logs, Resources(), poll_s=0)
    (logs / "queue.json").write_text(json.dumps({str(jobs[0].out): "5_0"}))  # as version 0.1 wrote it
    (slurm / "queue").write_text("5_0 RUNNING node1\n")
    with pytest.raises(DataError, match="other or unknown settings"):
        run_slurm(jobs, logs, Resources(), poll_s=0)
    assert not (slurm / "submitted.0").exists()


def test_the_first_failure_is_reported_with_its_last_line_when_all_have_ended(
    slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, jobs = tmp_path / "study" / "slurm", make_jobs(tmp_path / "study", 3)
    finish(jobs[2], logs, "7_2")
    (logs / "7_0_0_log.out").write_text(
        "epoch 1/2\nerror: the loss is no number\nsrun: error: Exited with exit code 1\n"
    )
    (slurm / "queue").write_text("\n7_1 RUNNING node1;7_2 RUNNING node2\n7_2 RUNNING node2\n\n")
    with pytest.raises(DataError, match="study fold 0 failed: got error: the loss is no number, .*7_0_0_log.out"):
        run_slurm(jobs, logs, Resources(), poll_s=0)
    shown = capsys.readouterr().out
    assert "study fold 0 | failed: error: the loss is no number\n" in shown
    assert "study fold 1 | failed: no line\n" in shown
    assert "study fold 2 | finished\n" in shown


def test_a_run_folder_that_another_fit_finished_is_not_taken_for_done(slurm: Path, tmp_path: Path) -> None:
    logs, (job,) = tmp_path / "study" / "slurm", make_jobs(tmp_path / "study", 1)
    finish(job, logs, "3")
    (logs / "7_0_log.out").write_text("error: fold0 belongs to other data\n")
    with pytest.raises(DataError, match="study fold 0 failed: got error: fold0 belongs to other data"):
        run_slurm([job], logs, Resources(), poll_s=0)


def test_a_controller_that_is_away_is_waited_for(
    slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, (job,) = tmp_path / "study" / "slurm", make_jobs(tmp_path / "study", 1)
    finish(job, logs, "7")
    (slurm / "queue").write_text("\n7 RUNNING node1\ndown\ndown\n7 RUNNING node1\n\n")
    run_slurm([job], logs, Resources(), poll_s=0)
    shown = capsys.readouterr().out
    assert shown.count("got controller is away") == 1
    assert shown.endswith("study fold 0 | finished\n")


def test_without_slurm_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="--launcher slurm needs Slurm"):
        run_slurm(make_jobs(tmp_path, 1), tmp_path / "slurm", Resources())
