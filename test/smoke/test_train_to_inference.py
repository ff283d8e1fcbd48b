"""The whole way on the CPU: five tiny networks are trained, published and run by inference.py."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

from mitoscope.bundle.read import read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.preprocess import preprocess
from mitoscope.images.stain import describe_crops, measure_crops
from mitoscope.scoring.metrics.thresholds import THRESHOLD_RULES
from mitoscope.training.study.study import read_studies, read_study
from model.classification import OUTPUT_NAME

ROOT = Path(__file__).resolve().parents[2]
# timm's smallest residual network learns to tell the made crops apart in a dozen steps; EfficientViT would not, and
# with equal probabilities everywhere nothing below could fail.
SETTINGS = ("architecture=test_resnet", "learning_rate=0.02", "ema_decay=0")
PRECISIONS = ("fp32", "bf16")
PRESET = ("--preset", "smoke", *(word for setting in SETTINGS for word in ("--set", setting)))
# Sums in the same order, however many cores there are, and on the CPU also where there is a GPU.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def train(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command, given = [sys.executable, "-m", "mitoscope", "train", *map(str, arguments)], {**ENVIRONMENT, **environment}
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def study(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    done = train("run", "--data", data_folder, "--out", folder, *PRESET, "--hold-out", "source=other")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def bundle(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    done = train("publish", "--study", study, "--out", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_finished_study_is_not_trained_again(study: Path, data_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.glob("fold*/member.safetensors")}
    again = train("run", "--data", data_folder, "--out", study, *PRESET, "--hold-out", "source=other")
    assert again.stdout.count("is finished: nothing to do") == 5
    assert before == {path: path.stat().st_mtime_ns for path in study.glob("fold*/member.safetensors")}
    assert len(before) == 5


def test_a_log_of_few_letters_costs_no_exit_code(study: Path, data_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "fold0", tmp_path / "größe")
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET]
    done = train(*fit, "--out", tmp_path / "größe", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe is finished: nothing to do" in done.stdout


def test_another_split_does_not_go_into_the_same_folder(study: Path, data_folder: Path) -> None:
    other = train("run", "--data", data_folder, "--out", study, *PRESET, "--hold-out", "lung")
    assert other.returncode == 1
    assert "holds a study of another split" in other.stderr.splitlines()[-1]


def test_the_published_bundle_gives_the_validation_probabilities_of_fit(study: Path, bundle: Path) -> None:
    finished, ensemble = read_study(study), Classifier.load(bundle, device="cpu")
    for fold, network in enumerate(ensemble.members):
        validation = pd.read_csv(study / f"fold{fold}" / "validation.csv")
        crops = finished.data.crops[finished.data.rows_of(validation["image_id"].tolist())]
        images = preprocess(crops, ensemble.bundle.input)
        got = network(images).detach().sigmoid().squeeze(1).numpy()
        assert np.ptp(validation["p_atypical"]) > 0.1
        np.testing.assert_allclose(got, validation["p_atypical"], atol=1e-3)


def test_the_published_bundle_says_what_bf16_changes(study: Path, bundle: Path) -> None:
    finished, said = read_study(study), read_bundle(bundle).bf16
    crops = finished.data.crops[finished.data.rows_of(finished.out_of_fold()["image_id"].tolist())]
    full, rounded = (Classifier.load(bundle, device="cpu", precision=name).predict_proba(crops) for name in PRECISIONS)
    assert said.n_crops == len(crops) == 70
    assert said.largest_change == pytest.approx(np.abs(full - rounded).max(), abs=1e-9)
    assert 0 < said.largest_change < 0.1
    threshold = read_bundle(bundle).threshold.value
    assert said.flipped == ((full >= threshold) != (rounded >= threshold)).mean()


def test_the_published_bundle_describes_its_training_crops(study: Path, bundle: Path) -> None:
    finished, described = read_study(study), read_bundle(bundle).training_crops
    rows = finished.data.rows_of(finished.out_of_fold()["image_id"].tolist())
    assert sorted(finished.data.table["source"].iloc[rows].unique()) == ["made"]  # the other source was held out
    expected = describe_crops(measure_crops(finished.data.crops[rows]))
    assert described.n_crops == expected.n_crops == 70
    for name, known in expected.features.items():
        assert vars(described.features[name]) == pytest.approx(vars(known), abs=1e-6)


def test_a_bundle_that_fails_its_trial_does_not_replace_the_older_one(
    study: Path, bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(study, tmp_path / "study")
    out = Path(shutil.copytree(bundle, tmp_path / "tiny"))
    path = tmp_path / "study" / "fold3" / "validation.csv"
    validation = pd.read_csv(path)
    validation.assign(p_atypical=1 - validation["p_atypical"]).to_csv(path, index=False)  # as if the member had changed
    refused = train("publish", "--study", tmp_path / "study", "--out", out)
    assert refused.returncode == 1
    assert "member 3 changed when it was written" in refused.stderr.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study", "tiny"]


def test_inference_runs_on_the_published_bundle(bundle: Path, data_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "test" / "input" / "interf0", tmp_path / "input")
    (stack,) = (tmp_path / "input").glob("images/*/*.tiff")
    pages = [Image.fromarray(crop) for crop in np.load(data_folder / "crops.npy")[:3]]
    pages[0].save(stack, save_all=True, append_images=pages[1:])
    command = [sys.executable, "inference.py", "--input", tmp_path / "input", "--output", tmp_path / "output"]
    done = subprocess.run(
        [*map(str, command), "--weights", str(bundle)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = json.loads((tmp_path / "output" / OUTPUT_NAME).read_text())
    expected = Classifier.load(bundle, device="cpu").predict_proba(np.load(data_folder / "crops.npy")[:3])
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose([record["confidence"] for record in records], expected, atol=1e-6)


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


def test_a_fit_that_stopped_early_stays_stopped_when_resumed(study: Path, data_folder: Path, tmp_path: Path) -> None:
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET, "--out", tmp_path]
    early = ["--set", "patience=1", "--set", "keep=best", "--set", "epochs=40"]
    done = train(*fit, *early)
    assert done.returncode == 0, done.stderr
    assert "epoch 40/40" not in done.stdout
    member = (tmp_path / "member.safetensors").read_bytes()
    for name in ("done.json", "member.safetensors", "validation.csv"):
        (tmp_path / name).unlink()
    again = train(*fit, *early)
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stdout
    assert (tmp_path / "member.safetensors").read_bytes() == member


def test_a_member_is_shaped_by_its_own_training_crops_alone(study: Path, data_folder: Path, tmp_path: Path) -> None:
    finished = read_study(study)
    shutil.copytree(data_folder, tmp_path / "data")
    crops = np.load(tmp_path / "data" / "crops.npy")
    unseen = [*finished.folds.folds[0], *finished.folds.held_out["source=other"]]
    crops[finished.data.rows_of(unseen)] = 255 - crops[finished.data.rows_of(unseen)]
    np.save(tmp_path / "data" / "crops.npy", crops)
    fit = ["fit", "--data", tmp_path / "data", "--folds", study / "folds.json", *PRESET]
    for fold in ("0", "1"):
        done = train(*fit, "--fold", fold, "--out", tmp_path / fold)
        assert done.returncode == 0, done.stderr
    members = {fold: (tmp_path / fold / "member.safetensors").read_bytes() for fold in ("0", "1")}
    assert members["0"] == (study / "fold0" / "member.safetensors").read_bytes()
    assert members["1"] != (study / "fold1" / "member.safetensors").read_bytes()  # fold 0's crops do train this one


def test_what_was_held_out_places_no_threshold(study: Path, tmp_path: Path) -> None:
    assert train("evaluate", "--study", study, "--out", tmp_path).returncode == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["studies"][study.name]
    predictions = read_study(study).out_of_fold()
    is_atypical, p_atypical = (predictions["label"] == "atypical").to_numpy(), predictions["p_atypical"].to_numpy()
    rules = figures["held_out"]["source=other"]["rules"]
    for name, place in THRESHOLD_RULES.items():
        assert rules[name]["threshold"] == place(is_atypical, p_atypical)
    assert figures["threshold"] == rules["max_balanced_accuracy"]["threshold"]


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
    limited += "sys.argv = ['train', *sys.argv[1:]]; runpy.run_module('train', run_name='__main__')"
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


def test_a_damaged_checkpoint_is_told_and_nothing_is_trained_over_it(
    study: Path, data_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(study / "fold0", tmp_path / "fold0")
    (tmp_path / "fold0" / "done.json").unlink()
    checkpoint = tmp_path / "fold0" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET]
    refused = train(*fit, "--out", tmp_path / "fold0")
    assert refused.returncode == 1
    assert "last.ckpt is damaged" in refused.stderr.splitlines()[-1]


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


def test_two_fits_do_not_share_a_folder(study: Path, data_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "fold0", tmp_path / "fold0")
    (tmp_path / "fold0" / "done.json").unlink()
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--fold", "0", *PRESET]
    with (tmp_path / "fold0" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = train(*fit, "--out", tmp_path / "fold0")
    assert refused.returncode == 1
    assert "is in use" in refused.stderr.splitlines()[-1]


def test_leave_one_out_never_shows_a_network_what_is_left_out(data_folder: Path, tmp_path: Path) -> None:
    done = train(
        "run", "--data", data_folder, "--out", tmp_path, *PRESET, "--leave-one-out", "--hold-out", "source=other"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    studies = read_studies(tmp_path)
    assert sorted(studies) == ["breast", "lung"]
    for domain, left_out in studies.items():
        table = left_out.data.table.set_index("image_id")
        seen = {image_id for fold in left_out.folds.folds for image_id in fold}
        assert set(table.loc[sorted(seen), "domain"]) == {"breast", "lung"} - {domain}
        assert set(left_out.out_of_fold()["image_id"]) == seen
        assert set(table.loc[list(left_out.folds.held_out[f"domain={domain}"]), "domain"]) == {domain}
    refused = train("run", "--data", data_folder, "--out", tmp_path / "x", *PRESET, "--leave-one-out", "case")
    assert refused.returncode == 1
    assert "10 crops of unknown case from ['other']" in refused.stderr.splitlines()[-1]
    evaluated = train("evaluate", "--study", tmp_path, "--out", tmp_path / "results")
    assert evaluated.returncode == 0, evaluated.stderr
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        *("figures.json", "tables.md", "roc.svg", "confusion.svg")
    }
    figures = json.loads((tmp_path / "results" / "figures.json").read_text())["studies"]
    for domain, left_out in studies.items():
        n_crops = len(left_out.folds.held_out[f"domain={domain}"])
        assert figures[domain]["held_out"][f"domain={domain}"]["ensemble"]["n_crops"] == n_crops
    refused = train("publish", "--study", tmp_path, "--out", tmp_path / "bundle")
    assert refused.returncode == 1


def test_a_study_of_one_member_compares_but_makes_no_bundle(study: Path, data_folder: Path, tmp_path: Path) -> None:
    run = ["run", "--data", data_folder, "--out", tmp_path / "one", *PRESET, "--hold-out", "source=other"]
    done = train(*run, "--members", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    compared = train("evaluate", "--study", study, tmp_path / "one", "--out", tmp_path / "results")
    assert compared.returncode == 0, compared.stderr
    rows = [line for line in compared.stdout.splitlines() if line.startswith(("| one |", f"| {study.name} |"))]
    assert [row.split(" | ")[3] for row in rows] == ["one", "all 5", "one, mean of 5", "one", "one"]
    refused = train("publish", "--study", tmp_path / "one", "--out", tmp_path / "bundle")
    assert refused.returncode == 1
    assert "cannot be published: got 1 members, expected 5" in refused.stderr.splitlines()[-1]


def test_a_run_folder_is_not_taken_for_another_fold_or_setting(study: Path, data_folder: Path) -> None:
    fit = ["fit", "--data", data_folder, "--folds", study / "folds.json", "--out", study / "fold0", *PRESET]
    for change in (["--fold", "1"], ["--fold", "0", "--set", "epochs=3"]):
        refused = train(*fit, *change)
        assert refused.returncode == 1
        assert "belongs to other data, another fold, split or configuration" in refused.stderr.splitlines()[-1]


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
