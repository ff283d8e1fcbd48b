"""A tiny detector is trained for real, on a CPU: fields → folds → fit, resumed and refused; study → metrics, bundle."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from PIL import Image

from mitoscope.bundle.read import read_bundle
from mitoscope.cli import main
from mitoscope.errors import MitoscopeError, WeightsError
from mitoscope.networks.build import build_detector
from mitoscope.sockets import POINTS_NAME, REGION_SLUG
from mitoscope.training.detect.module import DetectModule
from mitoscope.training.detect.results import rounding
from mitoscope.training.detect.results.mine import mine_study
from mitoscope.training.fit import fit_member
from mitoscope.training.study.launch import FitJob
from mitoscope.training.study.study import Recipe, read_study, run_study
from model import detection
from model.detection import IMAGES_FOLDER

DENSITY = ("input.density_mean=[0.2,0.35,0.25]", "input.density_std=[0.1,0.15,0.1]")
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("more_ema_decays=[0.9]",)
STUDY_SETTINGS = (
    "epochs=4", "patches_per_epoch=64", "learning_rate=0.003", "ema_decay=0.8", *SETTINGS, *DENSITY
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _few_fields() -> Iterator[None]:
    """A CPU computes fp16 slowly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounding, "MOST_FIELDS", 3)
        yield


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


def fit_here(jobs: list[FitJob]) -> None:
    for job in jobs:
        fit_member(job.data, job.folds, job.fold, job.out, job.preset, job.settings)


@pytest.fixture(scope="module")
def study(folder: Path) -> Path:
    """Three folds of a study, trained until they find the squares; one slide is held out."""
    recipe = Recipe("detector-smoke", STUDY_SETTINGS, 3, whole=True)
    run_study(folder / "data", folder / "study", recipe, ["case=slide5"], fit_here)
    return folder / "study"


def test_a_study_splits_by_slide_and_fits_by_the_same_code(study: Path) -> None:
    finished = read_study(study)
    assert (finished.data.task, list(finished.members)) == ("detect", [0, 1, 2])
    held_out = finished.folds.held_out["case=slide5"]
    assert {name.removeprefix(f"{study.parent.name}/") for name in held_out} == {"10.png", "11.png"}


def test_a_study_is_evaluated_out_of_fold_by_slide_and_by_weights(study: Path, tmp_path: Path) -> None:
    assert main(["train", "evaluate", "--study", str(study), "--out", str(tmp_path), "--tta"]) == 0
    [results] = json.loads((tmp_path / "figures.json").read_text())["studies"].values()
    finished = read_study(study)
    n_fields = sum(len(finished.folds.folds[fold]) for fold in finished.members)
    assert results["out_of_fold"]["n_regions"] == results["threshold"]["n_crops"] == n_fields
    assert list(results["states"]) == ["member", "ema_0.9", "raw", "averages", "tta"]
    found = [row["best_threshold"] for row in results["states"].values()]
    assert len(set(found)) > 1  # they are different networks
    assert len(results["cases"]) == len(results["price"]["cases"]) >= 2
    pooled, best = results["out_of_fold"], results["states"]["member"]["best_f1_score"]
    assert pooled["f1_score"] == pytest.approx(best)  # the threshold is the best of all of them
    assert results["price"]["f1_score_refitted"] <= best
    assert sum(row["n_found"] for row in results["cases"].values()) == pooled["n_found"] > 0
    assert results["held_out"]["case=slide5"]["ensemble"]["n_regions"] == 2
    assert {"froc.svg", "precision_recall.svg", "sweep.svg", "tables.md"} <= {path.name for path in tmp_path.iterdir()}
    assert str(study.parent) not in (tmp_path / "figures.json").read_text().replace(str(study), "")


def test_studies_are_compared_in_one_table_and_by_their_share_of_the_data(
    study: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder / "other"
    recipe = Recipe("detector-smoke", (*STUDY_SETTINGS, "data_share=0.5"), 1)
    run_study(folder / "data", other, recipe, ["case=slide5"], fit_here)
    assert main(["train", "evaluate", "--study", str(study), str(other), "--out", str(tmp_path)]) == 0
    table = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    head, rows = table[0], [row for row in table if "out of fold" in row]
    assert [row[0].strip() for row in rows] == ["study", "other"]
    losses = pd.concat(map(pd.read_csv, (other / "fold0").rglob("metrics.csv")))["val_loss"]
    assert float(rows[1][head.index("validation loss")]) == pytest.approx(losses.min(), abs=5e-4)
    picture = (tmp_path / "validation_loss.svg").read_text()
    publish = ["train", "publish", "--study", str(other), "--out", str(tmp_path / "share")]
    assert main(publish) == 1
    assert "a study of a share of the fields cannot be published: got data_share=0.5" in capsys.readouterr().err
    assert {"<!-- 0.5 -->", "<!-- 1 -->", "<!-- test_resnet -->"} <= set(re.findall("<!-- .* -->", picture))
    assert main(["train", "evaluate", "--study", str(study), str(other), "--out", str(tmp_path), "--tta"]) == 1
    assert "--tta needs one run: got 2 studies" in capsys.readouterr().err


def test_candidates_are_judged_again_by_a_classifiers_features(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "second-stage", "--study", str(study), "--least", "0.001", "--crop-px", "32", "128"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "second-stage.json").read_text())
    pairs = [f"{words} of {side} px{end}" for side in (32, 128)
             for words, end in (("features", " alone"), ("detector and features", ""))]  # fmt: skip
    assert list(written["rows"]) == ["detector alone", *pairs]
    assert 0 < written["n_right"] < written["n_candidates"]
    for wrong, words in (
        (["--crop-px", "32", "129"], "--crop-px cannot be used: got 129"),
        (["--least", "0.999"], "there are too few candidates for a second stage: got figures in 0 folds"),
    ):
        assert main([*command, *wrong, "--out", str(tmp_path / "wrong")]) == 1
        assert words in capsys.readouterr().err
    assert all(0 < row["AP"] <= 1 for row in written["rows"].values())
    assert "of them figures" in (tmp_path / "tables.md").read_text()


@pytest.fixture(scope="module")
def bundle(study: Path, folder: Path) -> Path:
    assert main(["train", "publish", "--study", str(study), "--out", str(folder / "tiny")]) == 0
    return folder / "tiny"


def test_a_study_is_published_and_detects(bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    described = read_bundle(bundle)
    assert (described.task, described.classes, len(described.members)) == ("detect", ("mitotic figure",), 3)
    assert all({"f1_score", "precision", "recall"} <= set(member.metrics) for member in described.members)
    assert (described.input.mpp, described.threshold.rule) == (0.5, "max_f1")
    assert described.training["data"][0]["points"]["mitotic figure"] > 0
    assert described.training["slides"] == 5
    assert set(described.rounding) == {"fp16", "bf16"}
    assert described.rounding["fp16"].n_crops > 0
    card = (bundle / "README.md").read_text()
    for words in ("What it cannot do", "held out: case=slide5", "Price of the threshold", "Not for clinical use",
                  "Rounding, against fp32: fp16 changes a probability"):  # fmt: skip
        assert words in card
    image = str(folder / "images" / "10.png")
    assert main(["detect", image, "--mpp", "0.5", "--weights", str(bundle), "--out", str(out)]) == 0
    found, truth = pd.read_csv(out / "detections.csv"), pd.read_csv(folder / "truth.csv")
    figure = truth[(truth["image"] == "10.png") & (truth["label"] == "mitotic figure")].iloc[0]
    best = found.iloc[0]
    assert np.hypot(best["x_px"] - figure["x_px"], best["y_px"] - figure["y_px"]) < 15  # 7.5 µm
    assert main(["evaluate", "--detections", str(out / "detections.csv"), "--truth", str(folder / "truth.csv"),
                 "--mpp", "0.5", "--out", str(tmp_path / "scored")]) == 0  # fmt: skip
    threshold = json.loads((tmp_path / "scored" / "figures.json").read_text())["threshold"]
    assert threshold == {"value": described.threshold.value, "origin": "detections.csv.json"}


def test_the_containers_entry_detects_with_it(bundle: Path, folder: Path, make_case: Any, tmp_path: Path) -> None:
    case = make_case(slug=REGION_SLUG)
    region = case / IMAGES_FOLDER / "region.tiff"
    Image.open(folder / "images" / "10.png").save(region, dpi=(25_400 / 0.5, 25_400 / 0.5))
    command = [sys.executable, "inference.py", "--input", str(case), "--output", str(tmp_path / "output")]
    done = subprocess.run(
        [*command, "--weights", str(bundle), "--device", "cpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [best, *_] = json.loads((tmp_path / "output" / POINTS_NAME).read_text())["points"]
    truth = pd.read_csv(folder / "truth.csv")
    figure = truth[(truth["image"] == "10.png") & (truth["label"] == "mitotic figure")].iloc[0]
    x_mm, y_mm, _ = best["point"]
    assert np.hypot(x_mm - figure["x_px"] * 0.5e-3, y_mm - figure["y_px"] * 0.5e-3) < 7.5e-3
    assert main(["check", str(tmp_path / "output" / POINTS_NAME), "--region", str(region)]) == 0


def test_the_same_commands_train_a_detector_of_two_other_cells(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The classes are labels of the truth; the last one is what the published detector finds."""
    table = (folder / "truth.csv").read_text()
    table = table.replace("mitotic figure", "lymphocyte").replace("hard negative", "plasma cell")
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "truth.csv").write_text(table)
    truth = ["--truth", str(tmp_path / "cells" / "truth.csv"), str(folder / "images")]
    assert main(["train", "prepare", *truth, "--mpp", "0.5", "--out", str(tmp_path / "data")]) == 0
    settings = ("epochs=5", "patches_per_epoch=64", "learning_rate=0.003", "ema_decay=0.8")
    recipe = Recipe("detector-smoke", (*settings, 'classes=["lymphocyte","plasma cell"]'), 1)
    run_study(tmp_path / "data", tmp_path / "study", recipe, [], fit_here)
    found = pd.read_csv(tmp_path / "study" / "fold0" / "validation.csv")
    assert set(found["label"]) == {"lymphocyte", "plasma cell"}
    assert main(["train", "publish", "--study", str(tmp_path / "study"), "--out", str(tmp_path / "cells-1")]) == 0
    described = read_bundle(tmp_path / "cells-1")
    assert described.classes == ("lymphocyte", "plasma cell")
    assert "where in a region of H&E tissue each *plasma cell* is" in (tmp_path / "cells-1" / "README.md").read_text()
    image = str(folder / "images" / "10.png")
    arguments = ["--mpp", "0.5", "--weights", str(tmp_path / "cells-1"), "--out", str(tmp_path / "found")]
    assert main(["detect", image, *arguments]) == 0
    best, places = pd.read_csv(tmp_path / "found" / "detections.csv").iloc[0], pd.read_csv(tmp_path / "cells/truth.csv")
    own = places[places["image"] == "10.png"].set_index("label")[["x_px", "y_px"]]
    far = np.hypot(*(own - best[["x_px", "y_px"]].astype(float)).T.to_numpy())
    assert own.index[far.argmin()] == "plasma cell"
    assert far.min() < 15  # 7.5 µm
    objects = json.loads((tmp_path / "found" / "10.png.geojson").read_text())["features"]
    named = {each["properties"]["classification"]["name"] for each in objects}
    assert "plasma cell" in named <= {"plasma cell", "non-plasma cell"}
    assert re.search(r"detections.csv: \d+ plasma cells, ", capsys.readouterr().out)
    slide = ["slide", image, "--mpp", "0.5", "--detector", str(tmp_path / "cells-1"), "--out", str(tmp_path / "slide")]
    assert main(slide) == 1
    assert "'test-resnet-cells-1' does not find mitotic figures: got a detector of" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="does not find mitotic figures"):  # nor does the container take it
        detection.get_place()(described, iter([]), None, "fp32", None)


def read_page(path: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def test_tissue_without_mitosis_gives_hard_negatives_and_a_page(
    bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every field of the test holds a figure, so the detector certainly finds something."""
    out = tmp_path / "mined"
    start = ["train", "mine", "--tissue", str(folder / "images"), "--mpp", "0.5", "--weights", str(bundle)]
    assert main([*start, "--least", "0.1", "--out", str(out)]) == 0
    table, data = pd.read_csv(out / "truth.csv"), read_page(out / "review.html")
    assert len(table) == len(data["crop"]) > 0
    assert table["label"].unique().tolist() == ["hard negative"]
    assert (table["p_mitosis"] >= 0.1).all()
    assert "\n".join([data["head"], *data["lines"]]) + "\n" == (out / "truth.csv").read_text()  # what the page saves
    named = ["--truth", str(out / "truth.csv"), str(folder / "images"), "--mpp", "0.5", "--preset", "detector-smoke"]
    assert main(["train", "prepare", *named, "--out", str(tmp_path / "data")]) == 0
    assert len(pd.read_csv(tmp_path / "data" / "points.csv")) == len(table)
    (tmp_path / "tissue").mkdir()
    shutil.copy(folder / "images" / "0.png", tmp_path / "tissue")
    without_mpp = ["--tissue", str(tmp_path / "tissue"), "--weights", str(bundle), "--out", str(tmp_path / "assumed")]
    assert main(["train", "mine", *without_mpp]) == 0
    assert "warning: 0.png: " in capsys.readouterr().err


def test_labelled_fields_give_candidates_outside_of_every_label(study: Path, folder: Path, tmp_path: Path) -> None:
    """Where the labels are hidden, the figures are candidates; where they are not, nothing near them is."""
    finished, truth = read_study(study), pd.read_csv(folder / "truth.csv")
    hidden = replace(finished, data=replace(finished.data, points=finished.data.points.iloc[:0]))
    n_all = mine_study(hidden, tmp_path / "all", least=0.1)
    everything = pd.read_csv(tmp_path / "all" / "truth.csv")
    assert len(everything) == n_all > 0
    assert main(["train", "mine", "--study", str(study), "--least", "0.1", "--out", str(tmp_path / "mined")]) == 0
    mined = pd.read_csv(tmp_path / "mined" / "truth.csv")

    def distance(row: Any) -> float:
        own = truth[truth["image"] == row.image.rpartition("/")[2]]
        return float(np.hypot(own["x_px"] - row.x_px, own["y_px"] - row.y_px).min())

    far = [distance(row) > 25 for row in everything.itertuples()]  # 12.5 µm
    assert not all(far)
    assert mined[["image", "x_px"]].to_numpy().tolist() == everything[far][["image", "x_px"]].to_numpy().tolist()
    named = ["--truth", str(folder / "truth.csv"), str(folder / "images"), "--mined", str(tmp_path / "all/truth.csv")]
    arguments = ["train", "prepare", *named, "--mpp", "0.5", "--preset", "detector-smoke"]
    assert main([*arguments, "--out", str(tmp_path / "data")]) == 0
    assert len(pd.read_csv(tmp_path / "data" / "points.csv")) == len(truth) + n_all
    before, after = (pd.read_csv(path / "data" / "fields.csv")["label"] for path in (folder, tmp_path))
    assert before.tolist() == after.tolist()  # folds are stratified by it: they stay


def test_a_bundle_may_hold_some_members_and_other_weights(study: Path, tmp_path: Path) -> None:
    arguments = ["train", "publish", "--study", str(study), "--out", str(tmp_path / "one"), "--members", "1"]
    assert main([*arguments, "--state", "raw"]) == 0
    described = read_bundle(tmp_path / "one")
    assert [member.fold for member in described.members] == [1]
    finished = read_study(study)  # the threshold is fitted on what all networks find
    assert described.threshold.n_crops == sum(len(finished.folds.folds[fold]) for fold in finished.members)
    assert (described.training["state"], described.training["study_members"]) == ("raw", 3)
    assert "One test_resnet network of the study's 3" in (tmp_path / "one" / "README.md").read_text()


def test_a_bundle_may_hold_one_network_of_all_folds(study: Path, folder: Path, tmp_path: Path) -> None:
    finished = read_study(study)
    mark = json.loads((study / "whole" / "done.json").read_text())["mark"]
    assert set(finished.folds.train_ids(mark["fold"])) == {image for ids in finished.folds.folds for image in ids}
    out = tmp_path / "whole"
    assert main(["train", "publish", "--study", str(study), "--out", str(out), "--whole"]) == 0
    described = read_bundle(out)
    [member] = described.members
    assert (member.file, member.fold, dict(member.metrics)) == ("whole.safetensors", None, {})
    both = read_bundle(folder / "tiny")  # the threshold is that of the networks of the folds
    assert described.threshold.value == pytest.approx(both.threshold.value, abs=0.01)
    whole = described.training["out_of_fold"]
    assert set(whole) == {"f1_score", "precision", "recall", "AP", "intervals"}
    assert whole["intervals"]["recall"][0] <= whole["recall"] <= whole["intervals"]["recall"][1]
    card = (out / "README.md").read_text()
    assert "One test_resnet network, trained on all folds, that finds" in card
    assert "no slide is left" in card
    found = tmp_path / "found"
    image = str(folder / "images" / "10.png")
    assert main(["detect", image, "--mpp", "0.5", "--weights", str(out), "--out", str(found)]) == 0
    assert len(pd.read_csv(found / "detections.csv")) > 0


def test_a_darker_scan_of_the_same_tissue_gives_the_same_figures(bundle: Path, folder: Path, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(folder / "images" / "10.png"))
    darker = (256 * ((pixels + 1.0) / 256) ** 1.4 - 1).clip(0, 255).round().astype(np.uint8)
    Image.fromarray(darker).save(tmp_path / "10.png")
    found = []
    for path in (folder / "images" / "10.png", tmp_path / "10.png"):
        out = tmp_path / f"found{len(found)}"
        assert main(["detect", str(path), "--mpp", "0.5", "--weights", str(bundle), "--out", str(out)]) == 0
        found.append(pd.read_csv(out / "detections.csv").iloc[0][["x_px", "y_px", "p_mitosis"]].to_numpy(float))
    assert found[0] == pytest.approx(found[1], abs=0.1)


def test_options_of_the_other_task_and_unknown_members_are_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["--study", str(study), "--out", str(tmp_path / "x")]
    for arguments, line in (
        (["publish", *start, "--members", "4"], "--members names folds that were not fitted: got [4]"),
        (["publish", *start, "--members", "5"], "--members names folds that were not fitted: got [5]"),
        (
            ["publish", *start, "--state", "ema_0.5"],
            "has no weights ema_0.5: got ema_0.5, expected member, ema_0.9, raw",
        ),
        (["publish", *start, "--threshold-rule", "otsu"], "--threshold-rule does not apply to this study"),
        (["publish", *start, "--whole", "--members", "1"], "--whole cannot be published: got --members too"),
        (["evaluate", *start, "--misses"], "--misses does not apply to this study"),
    ):
        assert main(["train", *arguments]) == 1
        assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("lite", (), "the data were prepared for another task: got data to detect, and a preset to classify"),
        ("detector-smoke", ("input.mpp=0.25",), "prepared for another preset: got 0.5 µm per pixel, expected 0.25"),
        ("detector-smoke", ('classes=["lymphocyte"]',), "expected points of lymphocyte"),
        ("detector-smoke", ("input.size_px=100", "input.crop_px=100"), "the setting input is out of range"),
        ("detector-smoke", ("input.size_px=64",), "the setting input is out of range"),
        ("detector-smoke", ("tile_px=192",), "the tiles are too small for inference: got 192 px, expected 224"),
        ("detector-smoke", ("input.density_std=[0.3,0.3,0.3]",), "the network's input cannot be used"),
    ],
)
def test_what_does_not_fit_the_fields_is_refused(
    folder: Path, tmp_path: Path, preset: str, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(MitoscopeError, match=message):
        fit_member(folder / "data", folder / "folds.json", 0, tmp_path / "run", preset, settings)


def test_a_run_for_another_task_leaves_no_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["train", "run", "--data", str(folder / "data"), "--preset", "smoke", "--out", str(tmp_path / "run")]
    assert main(run) == 1
    assert capsys.readouterr().err.count("the data were prepared for another task") == 1
    assert not (tmp_path / "run").exists()


def test_fields_are_not_prepared_like_crops(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ["--truth", str(folder / "truth.csv"), str(folder / "images")]
    assert main(["train", "prepare", *truth, "--labels-only", "--out", str(tmp_path)]) == 1
    assert "fields are not prepared like crops: got --labels-only beside fields" in capsys.readouterr().err
