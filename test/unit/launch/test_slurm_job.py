import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from mitoscope.errors import DataError
from mitoscope.launch.job import Resources
from mitoscope.launch.slurm_job import SlurmJob
from mitoscope.training.study.launch import ROOT, FitJob

# A start of a job that holds its folder, and then would work for a minute.
START = """
import sys, time
from pathlib import Path
from mitoscope.launch import slurm_job
slurm_job.WATCH_S = 0.1
slurm_job._hold(Path(sys.argv[1]))
print("holds", flush=True)
time.sleep(60)
"""


def start(run: Path, restart: int) -> "subprocess.Popen[str]":
    environment = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restart)}
    command = [sys.executable, "-c", START, str(run)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow  # two processes that import submitit
def test_a_later_start_ends_an_earlier_one_that_is_still_alive(tmp_path: Path) -> None:
    with start(tmp_path / "run", 0) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holds\n"
        with start(tmp_path / "run", 1) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "holds\n"
            assert first.stdout.readline() == "another start of this job owns its folder now: stopping\n"
            assert first.wait(10) == 1
            assert second.poll() is None
            second.kill()


def test_what_is_put_in_the_queue_again_is_the_same_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit = SlurmJob(FitJob(Path("data"), Path("folds.json"), 3, Path("fold3"), "smoke", ("epochs=3",)).absolute())
    monkeypatch.chdir(ROOT)
    submission = pickle.loads(pickle.dumps(fit)).checkpoint()
    assert submission.function == fit
    assert not submission.args
    assert (fit.job.out, fit.job.data) == (tmp_path / "fold3", tmp_path / "data")


@pytest.mark.parametrize("setting", [{"time_min": 1}, {"gpus_per_node": 2}, {"cpus_per_task": 0}, {"mem_gb": -1.0}])
def test_resources_that_no_fit_can_use_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(DataError, match=f"Slurm setting {next(iter(setting))} is out of range"):
        Resources(**setting)  # type: ignore[arg-type]
