"""The whole way on the CPU: five tiny networks are trained, published and run by inference.py."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

from mitoscope.bundle.manifest import Base
from mitoscope.bundle.members import parse_member, write_bundle
from mitoscope.bundle.read import read_bundle, read_content
from mitoscope.classify import rounding
from mitoscope.classify.calibrate import calibrate
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.outliers import describe_crops, find_outliers
from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.files import hash_file
from mitoscope.images.stain import measure_crops
from mitoscope.scoring.metrics.platt import fit_platt
from mitoscope.scoring.metrics.thresholds import THRESHOLD_RULES
from mitoscope.sockets import OUTPUT_NAME
from mitoscope.training.classify.members import describe_bundle, load_classifier
from mitoscope.training.classify.out_of_fold import predict_out_of_fold, read_out_of_fold
from mitoscope.training.data.table import CropData
from mitoscope.training.fit import fit_member
from mitoscope.training.study.launch import FitJob
from mitoscope.training.study.study import Recipe, read_studies, read_study, run_leave_one_out, run_study

ROOT = Path(__file__).resolve().parents[2]
# timm's smallest residual network learns to tell the made crops apart in a dozen steps; EfficientViT would not, and
# with equal probabilities everywhere nothing below could fail.
SETTINGS = ("architecture=test_resnet", "learning_rate=0.02", "ema_decay=0", "orientations=1")
PRESET = ("--preset", "smoke", *(word for setting in SETTINGS for word in ("--set", setting)))
HOLD_OUT = ["source=other"]
# Sums in the same order, however many cores there are, and on the CPU also where there is a GPU.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module", autouse=True)
def _same_sums() -> Iterator[None]:
    """What `ENVIRONMENT` is for a process, for this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(rounding, "MOST_CROPS", {"fp16": 14, "bf16": 14})  # a CPU computes fp16 slowly
        yield
    torch.set_num_threads(before)


def train(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A process of its own, for what is to be killed or limited."""
    command = [sys.executable, "-m", "mitoscope", "train", *map(str, arguments)]
    given = {**ENVIRONMENT, **environment}
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


def fit_here(jobs: list[FitJob]) -> None:
    """A launcher without processes."""
    for job in jobs:
        fit_member(job.data, job.folds, job.fold, job.out, job.preset, job.settings)


def run_here(data_folder: Path, out: Path, *settings: str, hold_out: list[str] = HOLD_OUT, members: int = 5) -> None:
    """`mitoscope train run` in this process."""
    run_study(data_folder, out, Recipe("smoke", (*SETTINGS, *settings), members), hold_out, fit_here)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """A function (*arguments) that runs `mitoscope train` in this process; its exit code, and its last line."""

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["train", *map(str, arguments)])
        shown = capsys.readouterr()
        return code, (shown.err if code else shown.out).splitlines()[-1]

    return run


@pytest.fixture(scope="module")
def study(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    run_here(data_folder, folder)
    return folder


@pytest.fixture(scope="module")
def bundle(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    assert main(["train", "publish", "--study", str(study), "--out", str(folder)]) == 0
    return folder


def test_a_finished_study_is_not_trained_again(
    study: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.glob("fold*/member.safetensors")}
    run_here(data_folder, study)
    assert capsys.readouterr().out.count("is finished: nothing to do") == 5
    assert before == {path: path.stat().st_mtime_ns for path in study.glob("fold*/member.safetensors")}
    assert len(before) == 5


def test_another_split_does_not_go_into_the_same_folder(study: Path, data_folder: Path) -> None:
    with pytest.raises(DataError, match="holds a study of another split"):
        run_here(data_folder, study, hold_out=["lung"])


def test_every_way_from_crops_to_probabilities_gives_the_same(
    study: Path, bundle: Path, data: CropData, tmp_path: Path, run_inference: Callable[..., object]
) -> None:
    finished = read_study(study)
    fitted = read_out_of_fold(finished)
    assert np.ptp(fitted.p_atypical) > 0.1
    described = describe_bundle(finished, fitted, "one_half", "x", study)
    evaluated = predict_out_of_fold(load_classifier(finished, described), data, finished.folds)
    np.testing.assert_array_equal(evaluated.rows, fitted.rows)
    np.testing.assert_allclose(evaluated.p_atypical, fitted.p_atypical, rtol=0, atol=1e-6)
    published = predict_out_of_fold(Classifier.load(bundle, device="cpu", precision="fp32"), data, finished.folds)
    np.testing.assert_allclose(published.p_atypical, fitted.p_atypical, rtol=0, atol=1e-3)  # weights in fp16

    crops, names = np.array(data.crops[:5]), [f"{number}.png" for number in range(5)]
    expected = Classifier.load(bundle, device="cpu").predict_proba(crops)
    (tmp_path / "crops").mkdir()
    for name, crop in zip(names, crops, strict=True):
        Image.fromarray(crop).save(tmp_path / "crops" / name)
    classify = ["classify", "--crops", str(tmp_path / "crops"), "--weights", str(bundle), "--device", "cpu"]
    assert main([*classify, "--out", str(tmp_path / "p.csv")]) == 0
    np.testing.assert_allclose(pd.read_csv(tmp_path / "p.csv")["p_atypical"], expected, rtol=0, atol=1e-6)

    shutil.copytree(ROOT / "test" / "input" / "interf0", tmp_path / "input")
    (stack,) = (tmp_path / "input").glob("images/*/*.tiff")
    pages = [Image.fromarray(crop) for crop in crops]
    pages[0].save(stack, save_all=True, append_images=pages[1:])
    options = ["--input", tmp_path / "input", "--output", tmp_path / "output", "--weights", bundle, "--device", "cpu"]
    run_inference(*options)
    records = json.loads((tmp_path / "output" / OUTPUT_NAME).read_text())
    np.testing.assert_allclose([record["confidence"] for record in records], expected, rtol=0, atol=1e-6)


def test_each_member_sees_a_crop_as_it_was_validated(study: Path, bundle: Path, data: CropData) -> None:
    assert [member.orientations for member in read_bundle(bundle).members] == [(0,), (3,), (6,), (1,), (4,)]
    recorded = read_out_of_fold(read_study(study))
    crops = np.rot90(data.crops[recorded.rows], axes=(1, 2))  # however it lies
    p_members = Classifier.load(bundle, device="cpu", precision="fp32").predict_members(np.ascontiguousarray(crops))
    own = p_members[recorded.fold, np.arange(len(crops))]
    np.testing.assert_allclose(own, recorded.p_atypical, atol=1e-3)  # the weights are rounded to fp16


def test_the_published_bundle_says_what_each_precision_changes(study: Path, bundle: Path, data: CropData) -> None:
    crops = data.crops[read_out_of_fold(read_study(study)).rows][::5]
    full, rounded = (
        Classifier.load(bundle, device="cpu", precision=name).predict_proba(crops) for name in ("fp32", "bf16")
    )
    measured, threshold = read_bundle(bundle).rounding, read_bundle(bundle).threshold.value
    assert measured["bf16"].n_crops == measured["fp16"].n_crops == len(crops) == 14
    assert measured["bf16"].largest_change == pytest.approx(np.abs(full - rounded).max(), abs=1e-9)
    assert measured["bf16"].flipped == ((full >= threshold) != (rounded >= threshold)).mean()
    assert 0 < measured["fp16"].largest_change < measured["bf16"].largest_change < 0.1


def test_the_published_bundle_describes_its_training_crops(study: Path, bundle: Path, data: CropData) -> None:
    described, rows = read_bundle(bundle).training_crops, read_out_of_fold(read_study(study)).rows
    assert described is not None
    assert sorted(data.table["source"].iloc[rows].unique()) == ["made"]  # the other source was held out
    expected = describe_crops(measure_crops(data.crops[rows]))
    assert described.n_crops == expected.n_crops == 70
    for name, known in expected.features.items():
        assert vars(described.features[name]) == pytest.approx(vars(known), abs=1e-6)


def test_the_card_comes_with_the_bundle(bundle: Path) -> None:
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert "5 test_resnet networks" in card
    assert f"atypical from {read_bundle(bundle).threshold.value:.4f} on" in card
    assert card.count("| held out: source=other |") == 2


def test_a_bundle_published_again_keeps_its_weights_and_threshold(
    bundle: Path, data_folder: Path, tmp_path: Path, cli: Callable[..., tuple[int, str]]
) -> None:
    old = Path(shutil.copytree(bundle, tmp_path / "tiny"))
    manifest = json.loads((old / "manifest.json").read_text())
    for key in ("checksum", "rounding", "training_crops"):
        del manifest[key]  # as older software wrote it
    (old / "manifest.json").write_text(json.dumps(manifest))
    (old / "README.md").write_text("an older card")
    again = ["publish", "--bundle", old, "--data", data_folder, "--out", old]
    code, line = cli(*again, "--hold-out", "lung")
    assert (code, "was trained on other folds" in line) == (1, True)
    assert (old / "README.md").read_text() == "an older card"
    assert cli(*again, "--hold-out", *HOLD_OUT)[0] == 0
    assert {path.name: path.read_bytes() for path in old.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }


def test_adapters_without_their_base_are_published_again_with_the_user_s(
    bundle: Path,
    data_folder: Path,
    tmp_path: Path,
    cli: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = read_bundle(bundle)
    states = [parse_member(read_content(full, member), member.file) for member in full.members]
    base = tmp_path / "base.safetensors"
    base.write_bytes(safetensors.torch.save(states[0]))
    members = tuple(replace(member, kind="adapter") for member in full.members)
    known = Base(hash_file(base), "not to be passed on", None, "a base")
    again = tmp_path / "again"
    old = write_bundle(replace(full, folder=tmp_path / "old", members=members, base=known, rounding={}), states).folder
    again.mkdir()
    monkeypatch.chdir(again)
    options = ["publish", "--bundle", old, "--data", data_folder, "--hold-out", *HOLD_OUT, "--out", "."]
    code, line = cli(*options)
    assert (code, "the bundle lacks its base" in line) == (1, True)
    assert cli(*options, "--base", base) == (0, "wrote .")
    written = read_bundle(again)
    assert written.rounding == full.rounding
    assert written.files == read_bundle(old).files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--study", "x", "--hold-out", "lung"], "--hold-out cannot be combined with --study"),
        (["--bundle", "x", "--threshold-rule", "otsu"], "--threshold-rule cannot be combined with --bundle"),
        (["--bundle", "x"], "--bundle needs --data"),
    ],
)
def test_options_of_publish_that_do_not_go_together_are_one_line(
    options: list[str], message: str, cli: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, line = cli("publish", "--out", tmp_path / "out", *options)
    assert code == 1
    assert message in line


def test_a_bundle_that_fails_its_trial_does_not_replace_the_older_one(
    study: Path, bundle: Path, tmp_path: Path, cli: Callable[..., tuple[int, str]]
) -> None:
    shutil.copytree(study, tmp_path / "study")
    out = Path(shutil.copytree(bundle, tmp_path / "tiny"))
    path = tmp_path / "study" / "fold3" / "validation.csv"
    validation = pd.read_csv(path)
    validation.assign(p_atypical=1 - validation["p_atypical"]).to_csv(path, index=False)  # as if the member had changed
    code, line = cli("publish", "--study", tmp_path / "study", "--out", out)
    assert code == 1
    assert "fold3.safetensors changed when it was written" in line
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study", "tiny"]


def test_what_was_held_out_places_no_threshold(
    study: Path, tmp_path: Path, cli: Callable[..., tuple[int, str]]
) -> None:
    code, line = cli("evaluate", "--study", study, "--out", tmp_path, "--tta")
    assert (code, "--tta does not apply to this study" in line) == (1, True)
    assert cli("evaluate", "--study", study, "--out", tmp_path, "--misses")[0] == 0
    misses = json.loads((tmp_path / "misses.json").read_text())
    assert misses["held_out"] == "source=other"
    assert misses["groups"][""]["all"]["n_atypical"] >= len(misses["missed"])
    assert (tmp_path / "misses.md").read_text().startswith(f"The errors on {misses['held_out']}")
    results = json.loads((tmp_path / "figures.json").read_text())["studies"][study.name]
    predictions = read_out_of_fold(read_study(study))
    p_atypical = calibrate(predictions.p_atypical, fit_platt(predictions.is_atypical, predictions.p_atypical))
    rules = results["held_out"]["source=other"]["rules"]
    for name, place in THRESHOLD_RULES.items():
        assert rules[name]["threshold"] == place(predictions.is_atypical, p_atypical)
    assert results["threshold"] == rules["max_balanced_accuracy"]["threshold"]


def test_a_study_of_one_member_compares_and_makes_a_bundle(
    study: Path, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study, tmp_path / "one")
    run_here(data_folder, tmp_path / "one", members=1)
    capsys.readouterr()
    compare = ["evaluate", "--study", str(study), str(tmp_path / "one"), "--out", str(tmp_path / "results")]
    assert main(["train", *compare]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith(("| one |", f"| {study.name} |"))]
    assert [row.split(" | ")[3] for row in rows] == ["one", "all 5", "one, mean of 5", "one", "one"]
    assert main(["train", "publish", "--study", str(tmp_path / "one"), "--out", str(tmp_path / "bundle")]) == 0
    assert [member.file for member in read_bundle(tmp_path / "bundle").members] == ["fold0.safetensors"]
    assert "One test_resnet network" in (tmp_path / "bundle" / "README.md").read_text()


def test_a_bundle_of_one_member_describes_the_crops_that_trained_it(
    study: Path, data: CropData, data_folder: Path, tmp_path: Path
) -> None:
    one = Path(shutil.copytree(study, tmp_path / "one"))
    run_here(data_folder, one, members=1)
    trained = data.rows_of([image_id for ids in read_study(one).folds.folds[1:] for image_id in ids])
    expected = describe_crops(measure_crops(data.crops[trained]))
    assert main(["train", "publish", "--study", str(one), "--out", str(tmp_path / "bundle")]) == 0
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.training_crops == expected
    assert [part["crops"] for part in bundle.training["data"]] == [len(trained)]
    assert main(["train", "evaluate", "--study", str(one), "--out", str(tmp_path / "results")]) == 0
    results = json.loads((tmp_path / "results" / "figures.json").read_text())["studies"]["one"]
    held_out = data.crops[data.rows_of(list(read_study(one).folds.held_out["source=other"]))]
    unlike = sum(bool(names) for names in find_outliers(measure_crops(held_out), expected))
    assert results["held_out"]["source=other"]["named"]["unlike"]["n_named"] == unlike


def test_a_run_folder_is_not_taken_for_another_fold_or_setting(study: Path, data_folder: Path) -> None:
    for fold, settings in ((1, SETTINGS), (0, (*SETTINGS, "epochs=3"))):
        with pytest.raises(DataError, match="belongs to other data, another fold, split or configuration"):
            fit_member(data_folder, study / "folds.json", fold, study / "fold0", "smoke", settings)


@pytest.fixture
def unfinished(study: Path, tmp_path: Path) -> Path:
    """A copy of the first member's folder, as if it had been killed after its last epoch."""
    folder = Path(shutil.copytree(study / "fold0", tmp_path / "fold0"))
    (folder / "done.json").unlink()
    return folder


def test_a_damaged_checkpoint_is_reported_and_nothing_is_trained_over_it(
    unfinished: Path, study: Path, data_folder: Path
) -> None:
    checkpoint = unfinished / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(DataError, match="last.ckpt is damaged"):
        fit_member(data_folder, study / "folds.json", 0, unfinished, "smoke", SETTINGS)


def test_two_fits_do_not_share_a_folder(unfinished: Path, study: Path, data_folder: Path) -> None:
    with (unfinished / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="is in use"):
            fit_member(data_folder, study / "folds.json", 0, unfinished, "smoke", SETTINGS)


@pytest.mark.long
def test_a_log_of_few_letters_costs_no_exit_code(study: Path, data_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "fold0", tmp_path / "größe")
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET]
    done = train(*fit, "--out", tmp_path / "größe", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe is finished: nothing to do" in done.stdout


def test_a_fit_that_stopped_early_stays_stopped_when_resumed(
    study: Path, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = (*SETTINGS, "patience=1", "keep=best", "epochs=40")
    fit_member(data_folder, study / "folds.json", 0, tmp_path, "smoke", early)
    assert "epoch 40/40" not in capsys.readouterr().out
    member = (tmp_path / "member.safetensors").read_bytes()
    for name in ("done.json", "member.safetensors", "validation.csv"):
        (tmp_path / name).unlink()
    fit_member(data_folder, study / "folds.json", 0, tmp_path, "smoke", early)
    assert "epoch" not in capsys.readouterr().out
    assert (tmp_path / "member.safetensors").read_bytes() == member


def test_a_member_is_shaped_by_its_own_training_crops_alone(study: Path, data_folder: Path, tmp_path: Path) -> None:
    finished = read_study(study)
    shutil.copytree(data_folder, tmp_path / "data")
    crops = np.load(tmp_path / "data" / "crops.npy")
    unseen = [*finished.folds.folds[0], *finished.folds.held_out["source=other"]]
    crops[finished.data.rows_of(unseen)] = 255 - crops[finished.data.rows_of(unseen)]
    np.save(tmp_path / "data" / "crops.npy", crops)
    for fold in (0, 1):
        fit_member(tmp_path / "data", study / "folds.json", fold, tmp_path / str(fold), "smoke", SETTINGS)
    members = {fold: (tmp_path / str(fold) / "member.safetensors").read_bytes() for fold in (0, 1)}
    assert members[0] == (study / "fold0" / "member.safetensors").read_bytes()
    assert members[1] != (study / "fold1" / "member.safetensors").read_bytes()  # fold 0's crops do train this one


@pytest.mark.slow
def test_a_killed_fit_resumed_equals_an_unbroken_one(study: Path, data_folder: Path, tmp_path: Path) -> None:
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET, "--out", tmp_path]
    command = [sys.executable, "-m", "mitoscope", "train", *map(str, fit)]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        while not (tmp_path / "last.ckpt").is_file():
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert not (tmp_path / "done.json").exists()
    resumed = train(*fit)
    assert resumed.returncode == 0
    assert "epoch 1/2" not in resumed.stdout
    unbroken = safetensors.torch.load_file(study / "fold0" / "member.safetensors")
    for name, tensor in safetensors.torch.load_file(tmp_path / "member.safetensors").items():
        torch.testing.assert_close(tensor, unbroken[name], atol=0, rtol=0)


@pytest.mark.long
def test_a_best_epoch_is_remembered_where_the_folder_has_moved(study: Path, data_folder: Path, tmp_path: Path) -> None:
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET]
    best = ["--set", "keep=best", "--set", "epochs=6", "--set", "learning_rate=0.05"]
    assert train(*fit, *best, "--out", tmp_path / "unbroken").returncode == 0
    command = [sys.executable, "-m", "mitoscope", "train", *map(str, [*fit, *best, "--out", tmp_path / "killed"])]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("epoch 4/6"):
                break
        process.kill()
    (tmp_path / "killed").rename(tmp_path / "moved")
    resumed = train(*fit, *best, "--out", tmp_path / "moved")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 1/6" not in resumed.stdout
    name = "member.safetensors"
    assert (tmp_path / "moved" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("already", ["nothing", "all epochs"])
def test_a_full_disk_ends_in_one_line_and_loses_nothing(
    already: str, study: Path, data_folder: Path, tmp_path: Path
) -> None:
    if already == "all epochs":
        shutil.copytree(study / "fold0", tmp_path, dirs_exist_ok=True)
        (tmp_path / "done.json").unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.ckpt")}
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET, "--out", tmp_path]
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); "
    limited += "sys.argv = ['mitoscope', 'train', *sys.argv[1:]]; runpy.run_module('mitoscope', run_name='__main__')"
    command = [sys.executable, "-c", limited, *map(str, fit)]
    full = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "File too large" in full.stderr.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.ckpt")} == before
    assert not {"done.json", ".partial"} & {path.name for path in tmp_path.iterdir()}
    resumed = train(*fit)
    assert resumed.returncode == 0, resumed.stderr
    unbroken = (study / "fold0" / "member.safetensors").read_bytes()
    assert (tmp_path / "member.safetensors").read_bytes() == unbroken


@pytest.mark.long
def test_a_terminated_study_leaves_no_fit_behind(data_folder: Path, tmp_path: Path) -> None:
    run = [
        "run",
        "--data",
        data_folder,
        "--out",
        tmp_path,
        *PRESET,
        "--set",
        "epochs=500",
        "--hold-out",
        "source=other",
    ]
    command = [sys.executable, "-m", "mitoscope", "train", *map(str, run), "--members", "1"]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if "training epochs 1 to 500" in line:
                break
        process.terminate()
        assert process.wait() == 143
    with (tmp_path / "fold0" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where the fit still holds it


@pytest.mark.slow
def test_leave_one_out_never_shows_a_network_what_is_left_out(
    data_folder: Path, tmp_path: Path, cli: Callable[..., tuple[int, str]]
) -> None:
    run_leave_one_out(data_folder, tmp_path, Recipe("smoke", SETTINGS, members=1), HOLD_OUT, fit_here)
    studies = read_studies(tmp_path)
    assert sorted(studies) == ["breast", "lung"]
    for domain, left_out in studies.items():
        table = left_out.data.table.set_index("image_id")
        seen = {image_id for fold in left_out.folds.folds for image_id in fold}
        assert set(table.loc[sorted(seen), "domain"]) == {"breast", "lung"} - {domain}
        assert set(left_out.read_validation()["image_id"]) == set(left_out.folds.folds[0])
        assert set(table.loc[list(left_out.folds.held_out[f"domain={domain}"]), "domain"]) == {domain}
    with pytest.raises(DataError, match="10 crops of unknown case from .'other'."):
        run_leave_one_out(data_folder, tmp_path / "x", Recipe("smoke", SETTINGS, members=1), [], fit_here, "case")
    assert cli("evaluate", "--study", tmp_path, "--out", tmp_path / "results")[0] == 0
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        *("figures.json", "tables.md", "roc.svg", "confusion.svg")
    }
    results = json.loads((tmp_path / "results" / "figures.json").read_text())["studies"]
    for domain, left_out in studies.items():
        n_crops = len(left_out.folds.held_out[f"domain={domain}"])
        assert results[domain]["held_out"][f"domain={domain}"]["ensemble"]["n_crops"] == n_crops
    assert cli("publish", "--study", tmp_path, "--out", tmp_path / "bundle")[0] == 1


@pytest.mark.long
def test_a_terminated_fit_is_not_a_finished_one(study: Path, data_folder: Path, tmp_path: Path) -> None:
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET, "--set", "epochs=500"]
    command = [sys.executable, "-m", "mitoscope", "train", *map(str, fit), "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        while not (tmp_path / "last.ckpt").is_file():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait() != 0
    assert not (tmp_path / "done.json").exists()
