"""A tiny detector is trained for real, on a CPU: fields → folds → fit, resumed and refused as the classifier is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from PIL import Image

from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.networks.build import build_detector
from mitoscope.training.detect.module import DetectModule
from mitoscope.training.fit import fit_member
from mitoscope.training.study.launch import FitJob
from mitoscope.training.study.study import Recipe, read_study, run_study

SETTINGS = ("more_ema_decays=[0.9]",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and folds.json of six slides, two fields each; in every field two dark squares, one a figure."""
    made, random, rows = tmp_path_factory.mktemp("detector"), np.random.default_rng(0), ["image,x_px,y_px,label,case"]
    (made / "images").mkdir()
    for number in range(12):
        pixels = random.normal((225, 180, 205), 8, (130, 150, 3)).clip(0, 255).astype(np.uint8)
        for label, colour in (("mitotic figure", (60, 30, 100)), ("hard negative", (130, 90, 160))):
            x, y = random.integers(20, 130), random.integers(20, 110)
            pixels[y - 6 : y + 6, x - 6 : x + 6] = colour
            rows.append(f"{number}.png,{x},{y},{label},slide{number // 2}")
        Image.fromarray(pixels).save(made / "images" / f"{number}.png")
    (made / "truth.csv").write_text("\n".join(rows))
    truth = ["--truth", str(made / "truth.csv"), str(made / "images")]
    assert main(["train", "prepare", *truth, "--mpp", "0.5", "--out", str(made / "data")]) == 0
    assert main(["train", "split", "--data", str(made / "data"), "--out", str(made / "folds.json")]) == 0
    return made


def fit(folder: Path, run: Path) -> Path:
    fit_member(folder / "data", folder / "folds.json", 0, run, "detector-smoke", SETTINGS)
    return run


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return fit(folder, folder / "run")


def test_a_fit_leaves_every_set_of_weights_and_what_they_find(run: Path) -> None:
    network = build_detector("test_resnet", 1)
    for name in ("member", "raw", "ema_0.9"):
        network.load_state_dict(safetensors.torch.load_file(run / f"{name}.safetensors"))
    found = pd.read_csv(run / "validation.csv")
    assert list(found) == ["image_id", "x_px", "y_px", "p", "label"]
    assert found["p"].between(0.01, 1).all()
    log = pd.read_csv(next((run / "log").rglob("metrics.csv")))
    assert {"val_loss", "val_f1", "train_focal", "train_box"} <= set(log)
    assert (run / "done.json").is_file()


def test_a_finished_fit_is_not_repeated(folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "member.safetensors").stat().st_mtime_ns
    fit(folder, run)
    assert "is finished: nothing to do" in capsys.readouterr().out
    assert (run / "member.safetensors").stat().st_mtime_ns == before


def test_a_fit_that_was_interrupted_ends_with_the_same_weights(
    folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = DetectModule.on_train_epoch_start

    def fail(self: DetectModule) -> None:
        if self.current_epoch == 1:
            raise RuntimeError("power cut")
        start(self)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="power cut"):
        patched.setattr(DetectModule, "on_train_epoch_start", fail)
        fit(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "done.json").exists()
    fit(folder, tmp_path / "run")
    for name in ("member", "raw", "ema_0.9"):
        file = f"{name}.safetensors"
        assert (tmp_path / "run" / file).read_bytes() == (run / file).read_bytes()


def test_a_study_splits_by_slide_and_fits_by_the_same_code(folder: Path, tmp_path: Path) -> None:
    def fit_here(jobs: list[FitJob]) -> None:
        for job in jobs:
            fit_member(job.data, job.folds, job.fold, job.out, job.preset, job.settings)

    recipe = Recipe("detector-smoke", ("epochs=1",), members=1)
    run_study(folder / "data", tmp_path, recipe, ["case=slide5"], fit_here)
    assert (tmp_path / "study.json").is_file()
    assert (tmp_path / "fold0" / "member.safetensors").is_file()
    assert read_study(tmp_path).data.task == "detect"


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("lite", (), "the data were prepared for another task: got data to detect, and a preset to classify"),
        ("detector-smoke", ("input.mpp=0.25",), "prepared for another preset: got 0.5 µm per pixel, expected 0.25"),
        ("detector-smoke", ('classes=["lymphocyte"]',), "expected points of lymphocyte"),
        ("detector-smoke", ("input.size_px=100",), "the setting input is out of range"),
    ],
)
def test_what_does_not_fit_the_fields_is_refused(
    folder: Path, tmp_path: Path, preset: str, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fit_member(folder / "data", folder / "folds.json", 0, tmp_path / "run", preset, settings)


def test_crops_and_fields_are_prepared_apart(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ["--truth", str(folder / "truth.csv"), str(folder / "images")]
    assert main(["train", "prepare", *truth, "--labels-only", "--out", str(tmp_path)]) == 1
    assert "cannot be prepared together" in capsys.readouterr().err
