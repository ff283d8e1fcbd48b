import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from mitoscope.errors import DataError
from mitoscope.provenance import PACKAGE
from mitoscope.training.study.launch import ROOT, FitJob, run_local


@dataclass(frozen=True)
class Script:
    """A job of another kind: a line of Python in a process."""

    name: str
    code: str

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code]


def launch(*codes: str, workers: int = 2) -> None:
    run_local([cast(FitJob, Script(f"job {k}", code)) for k, code in enumerate(codes)], workers)


def test_a_job_is_one_fit_of_the_command_line() -> None:
    job = FitJob(Path("/data"), Path("/study/folds.json"), 3, Path("/study/fold3"), "lite", ("epochs=2", "seed=1"))
    assert job.name == "study fold 3"
    assert " ".join(job.command[1:]) == (
        "-m mitoscope train fit --data /data --folds /study/folds.json --fold 3 --out /study/fold3 --preset lite "
        "--set epochs=2 --set seed=1"
    )


def test_every_job_runs_and_its_lines_carry_its_name(capfd: pytest.CaptureFixture[str]) -> None:
    launch(*(f"print({k} * 11)" for k in range(3)))
    assert sorted(capfd.readouterr().out.splitlines()) == ["job 0 | 0", "job 1 | 11", "job 2 | 22"]


def test_no_line_of_one_job_is_cut_by_another_s(capfd: pytest.CaptureFixture[str]) -> None:
    launch(*["for _ in range(5000): print('x' * 40)"] * 4, workers=4)
    lines = capfd.readouterr().out.splitlines()
    assert sorted(set(lines)) == [f"job {k} | {'x' * 40}" for k in range(4)]
    assert len(lines) == 20_000


STUDY = """
import sys
from types import SimpleNamespace
from mitoscope.training.study.launch import run_local
code = "import os; print(os.getpid(), flush=True)\\nwhile True: print('x' * 1000)"
run_local([SimpleNamespace(name="job", command=[sys.executable, "-c", code])], 1)
"""


def wait(met: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_study_whose_log_nobody_reads_still_stops_its_fits() -> None:
    command = ["env", "--default-signal=INT", sys.executable, "-c", STUDY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, bufsize=0) as study:
        assert study.stdout
        status = Path("/proc", study.stdout.readline().split()[-1].decode(), "status")
        unread = fcntl.fcntl(study.stdout, fcntl.F_GETPIPE_SZ) - 4096
        wait(lambda: int.from_bytes(fcntl.ioctl(study.stdout, termios.FIONREAD, bytes(4)), sys.byteorder) > unread)
        study.send_signal(signal.SIGINT)
        wait(lambda: not status.exists() or "State:\tZ" in status.read_text())
        study.kill()


def test_one_failure_ends_the_others_and_starts_no_more(tmp_path: Path) -> None:
    slow = f"import pathlib, time; time.sleep(60); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    started = time.monotonic()
    with pytest.raises(DataError, match="job 0 failed: got exit code 1 after 'no such luck', expected exit code 0"):
        launch("import time; time.sleep(0.5); raise SystemExit('no such luck')", slow, slow, slow)
    assert time.monotonic() - started < 50  # none of the sleepers was waited for
    assert not (tmp_path / "late").exists()


def test_a_user_s_number_of_threads_is_kept(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    launch("import os; print(os.environ['OMP_NUM_THREADS'])")
    assert capfd.readouterr().out == "job 0 | 7\n"


def test_jobs_find_the_package_where_it_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "mitoscope"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    program = "from types import SimpleNamespace; import sys; from mitoscope.training.study.launch import run_local\n"
    program += "job = 'import mitoscope; print(mitoscope.__file__)'\n"
    program += "run_local([SimpleNamespace(name='job', command=[sys.executable, '-c', job])], 1)"
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"job | {package / '__init__.py'}\n", done.stderr
