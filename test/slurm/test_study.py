"""Studies on a real Slurm cluster, whose nodes are lost and whose jobs are broken off, end like undisturbed ones."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mitoscope.errors import DataError
from mitoscope.launch.job import Resources
from mitoscope.launch.slurm import run_slurm
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import split, write_folds
from mitoscope.training.foundation.scale.run import Source, run_plan
from mitoscope.training.foundation.scale.trials import Plan
from mitoscope.training.study.launch import FitJob, run_local
from mitoscope.training.study.study import Recipe, run_study

pytestmark = pytest.mark.slurm
SETTINGS = ("architecture=test_resnet", "learning_rate=0.02", "ema_decay=0")
STUDY = (["source=other"], Recipe("smoke", (*SETTINGS, "epochs=12"), members=3))
A_NODE = Resources(gpus_per_node=0, cpus_per_task=2, mem_gb=1.0)


@pytest.fixture(scope="module")
def undisturbed(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study that all others have to equal, run without Slurm."""
    hold_out, recipe = STUDY
    folder = tmp_path_factory.mktemp("local") / "study"
    run_study(data_folder, folder, recipe, hold_out, partial(run_local, workers=2))
    return folder


@pytest.fixture
def job(data_folder: Path, data: CropData, tmp_path: Path) -> FitJob:
    """The first fit of that study, into a folder of the test's own."""
    hold_out, recipe = STUDY
    write_folds(tmp_path / "study" / "folds.json", split(data, hold_out))
    folder = tmp_path / "study"
    return FitJob(data_folder, folder / "folds.json", 0, folder / "fold0", recipe.preset, recipe.settings)


@pytest.fixture
def background(cluster: Any) -> Iterator[Callable[..., "Future[None]"]]:
    """A function that calls a launcher while the test goes on; what is in the queue at the end is cancelled."""
    pool = ThreadPoolExecutor(1)
    yield pool.submit
    cluster.ask("scancel", f"--user={os.getuid()}")
    pool.shutdown()


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Ctrl-C, which is heard: a suite that runs in a shell's background was told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield partial(os.kill, os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def starts(run: Path, logs: Path) -> list[list[int]]:
    """The epochs that each start of a fit printed."""
    number = json.loads((logs / "queue.json").read_text())[str(run.resolve())][0]
    texts = (logs / f"{number}_0_log.out").read_text().split("Starting with JobEnvironment")[1:]
    lines = [[line for line in text.splitlines() if line.startswith("epoch ")] for text in texts]
    return [[int(line.split()[1].partition("/")[0]) for line in start] for start in lines]


def same_member(run: Path, undisturbed: Path) -> bool:
    name = "member.safetensors"
    return (run / name).read_bytes() == (undisturbed / run.name / name).read_bytes()


def test_a_study_outlives_its_launcher_and_a_node(
    cluster: Any, background: Any, data_folder: Path, undisturbed: Path, tmp_path: Path, ctrl_c: Any, capfd: Any
) -> None:
    study, logs = tmp_path / "study", tmp_path / "study" / "slurm"
    hold_out, recipe = STUDY
    launch = partial(run_slurm, logs=logs, resources=A_NODE, max_parallel=2, poll_s=0.5)
    run = partial(run_study, data_folder, study, recipe, hold_out, launch)

    def interrupt() -> None:
        cluster.until((logs / "queue.json").exists, "queue.json")
        ctrl_c()

    stopper = Thread(target=interrupt)
    stopper.start()
    with pytest.raises(SystemExit) as stop:
        run()
    stopper.join()
    assert stop.value.code == 130
    assert "the jobs continue" in capfd.readouterr().out
    queue = (logs / "queue.json").read_text()

    launched = background(run)
    cluster.until(lambda: list(study.glob("fold*/last.ckpt")), "checkpoint")
    running = cluster.ask("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i %N")
    nodes = dict(line.split() for line in running.splitlines())
    assert sorted(nodes.values()) == ["node1", "node2"]
    lost = next(study.glob("fold*/last.ckpt")).parent
    node = nodes[json.loads(queue)[str(lost)][0]]
    cluster.lose(node)
    assert not (lost / "done.json").exists()
    launched.result(300)
    cluster.start_node(node)

    assert (logs / "queue.json").read_text() == queue
    assert len({number.partition("_")[0] for number, _ in json.loads(queue).values()}) == 1
    for fold in range(3):
        assert same_member(study / f"fold{fold}", undisturbed)
        epochs = starts(study / f"fold{fold}", logs)
        assert len(epochs) == (2 if study / f"fold{fold}" == lost else 1)
        assert epochs[-1] == list(range(epochs[-1][0], 13))
    assert starts(lost, logs)[1][0] > 1


@pytest.mark.long
@pytest.mark.parametrize("command", ["scontrol requeue", "scancel --signal=USR2"])
def test_a_job_that_is_broken_off_comes_back_and_resumes(
    command: str, cluster: Any, background: Any, job: FitJob, undisturbed: Path, tmp_path: Path
) -> None:
    launched = background(run_slurm, [job], tmp_path, A_NODE, poll_s=0.5)
    cluster.until((job.out / "last.ckpt").exists, "checkpoint")
    ((number, _),) = json.loads((tmp_path / "queue.json").read_text()).values()
    cluster.ask(*command.split(), number)
    launched.result(300)
    first, again = starts(job.out, tmp_path)
    assert 12 not in first
    assert again == list(range(again[0], 13))
    assert again[0] > 1
    assert same_member(job.out, undisturbed)


@pytest.mark.long
def test_a_job_that_is_pre_empted_comes_back_and_resumes(
    cluster: Any, background: Any, job: FitJob, tmp_path: Path
) -> None:
    job = replace(job, settings=(*SETTINGS, "epochs=300"))
    background(run_slurm, [job], tmp_path, replace(A_NODE, gpus_per_node=1), poll_s=0.5)
    cluster.until((job.out / "last.ckpt").exists, "checkpoint")
    cluster.ask("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=true", "--output=/dev/null")
    cluster.until(lambda: len(starts(job.out, tmp_path)) == 2 and starts(job.out, tmp_path)[1], "second start")
    first, again = starts(job.out, tmp_path)
    assert 300 not in first
    assert again[0] > 1


@pytest.mark.long
def test_a_fit_that_lives_on_where_slurm_has_given_it_up_ends_itself(
    cluster: Any, background: Any, job: FitJob, tmp_path: Path
) -> None:
    job = replace(job, settings=(*SETTINGS, "epochs=300"))
    background(run_slurm, [job], tmp_path, A_NODE, poll_s=0.5)
    cluster.until((job.out / "last.ckpt").exists, "checkpoint")
    node = cluster.ask("squeue", "--noheader", "--format=%N")
    first = (job.out / "slurm_job").read_text()
    cluster.lose(node, jobs=False)
    cluster.until(lambda: (job.out / "slurm_job").read_text() != first, "second start")
    cluster.until(lambda: not cluster.works_on(node), "end of the first start", 60)
    before = (job.out / "last.ckpt").stat().st_mtime_ns
    cluster.until(lambda: (job.out / "last.ckpt").stat().st_mtime_ns > before, "checkpoint of the second start")
    cluster.start_node(node)


def test_a_fit_that_fails_is_named_with_its_last_line(cluster: Any, job: FitJob, tmp_path: Path) -> None:
    bad = replace(job, settings=("epochs=0",))
    with pytest.raises(DataError, match=r"study fold 0 failed: got error: the setting epochs is out of range"):
        run_slurm([bad], tmp_path, A_NODE, poll_s=0.5)


def test_what_slurm_refuses_is_reported_in_its_own_words(cluster: Any, job: FitJob, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Slurm refuses the jobs: got .*invalid partition"):
        run_slurm([job], tmp_path, Resources(partition="none"))
    assert not (tmp_path / "queue.json").exists()


def test_a_study_of_shares_is_one_array_and_scores_as_without_slurm(
    cluster: Any, data_folder: Path, data: CropData, tmp_path: Path
) -> None:
    plan = Plan(("smoke",), fractions=(0.5, 1.0), seeds=(1,), hold_out=("source=other",))
    source = Source(data_folder, data, None, (*SETTINGS, "epochs=2"))
    logs = tmp_path / "slurm" / "slurm"
    on_slurm = run_plan(plan, source, tmp_path / "slurm", partial(run_slurm, logs=logs, resources=A_NODE, poll_s=0.5))
    here = run_plan(plan, source, tmp_path / "local", partial(run_local, workers=2))
    assert [each.trial.fraction for each in on_slurm] == [0.5, 1.0]
    assert all((a.p_atypical == b.p_atypical).all() for a, b in zip(on_slurm, here, strict=True))
    numbers = json.loads((logs / "queue.json").read_text()).values()
    assert [number.partition("_")[2] for number, _ in numbers] == ["0", "1"]
