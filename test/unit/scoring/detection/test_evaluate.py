import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from track1_evaluator import Image, count, score

from mitoscope.cli import main
from mitoscope.scoring.detection.evaluate import evaluate_detections

WRITTEN = {"metrics.json", "figures.json", "summary.md", "sweep.csv", "froc.svg", "precision_recall.svg", "sweep.svg"}


def read_images(folder: Path, threshold: float) -> list[Image]:
    """The tables, for the evaluator; µm per pixel from the first row of each image."""
    found, true = (pd.read_csv(folder / name) for name in ("detections.csv", "truth.csv"))
    images = []
    for image, rows in true.groupby("image"):
        own = found[found["image"] == image]
        mpp = own["x_um"].iloc[0] / own["x_px"].iloc[0]
        figures = rows[rows["label"] == "mitotic figure"]
        names = np.where(own["p_mitosis"] >= threshold, "mitotic figure", "non-mitotic figure")
        points = zip(own["x_um"] / 1000, own["y_um"] / 1000, names, own["p_mitosis"], strict=True)
        truth = zip(figures["x_px"] * mpp / 1000, figures["y_px"] * mpp / 1000, strict=True)
        images.append({"points": list(points), "truth": list(truth), "domain": rows["domain"].iloc[0]})
    return images


def evaluate(tables: Path, out: str = "out", **options: Any) -> tuple[dict[str, Any], str]:
    """figures.json, and the summary."""
    paths = (tables / "detections.csv", tables / "truth.csv", tables / out)
    summary = evaluate_detections(*paths, **{"threshold": 0.4, **options})
    return json.loads((tables / out / "figures.json").read_text()), summary


def test_tables_are_scored_as_the_evaluator_scores_and_everything_is_written(tables: Path) -> None:
    results, summary = evaluate(tables)
    assert {path.name for path in (tables / "out").iterdir()} == WRITTEN
    assert (tables / "out" / "summary.md").read_text() == summary
    aggregates = json.loads((tables / "out" / "metrics.json").read_text())["aggregates"]
    images = read_images(tables, 0.4)
    for name, value in score(images).items():
        assert aggregates[name] == pytest.approx(value, rel=0, abs=1e-9)
        lung = score([image for image in images if image["domain"] == "lung"])[name]
        assert aggregates[f"tumor_lung_{'f1' if name == 'f1_score' else name}"] == pytest.approx(lung, rel=0, abs=1e-9)
        low, high = results["pooled"]["intervals"]["metrics"][name]
        assert low < value < high
    assert not [name for name in aggregates if name.startswith("roi_type")]  # the tables name no kinds
    assert results["pooled"]["intervals"]["n_cases"] == 4
    assert results["threshold"] == {"value": 0.4, "origin": "--threshold"}
    hard = results["pooled"]["n_hard_negatives_called"]
    assert 0 < hard < results["pooled"]["n_hard_negatives"] == 48
    assert f"- all regions: {hard} of 48 hard negatives are called mitotic figures." in summary


def test_the_price_of_the_threshold_is_the_loss_against_the_best(tables: Path) -> None:
    results, _ = evaluate(tables)
    images = read_images(tables, 0.4)

    def f1(threshold: float) -> float:
        counts = [count(i["truth"], [point for point in i["points"] if point[3] >= threshold]) for i in images]
        found, false_alarms, missed = np.sum(counts, axis=0)
        return (2 * found + 1e-6) / (2 * found + false_alarms + missed + 1e-6)

    by_threshold = {p: f1(p) for image in images for *_, p in image["points"]}
    best = max(by_threshold.values())
    sweep = results["pooled"]["sweep"]
    assert sweep["best_f1_score"] == pytest.approx(best)
    assert sweep["best_threshold"] == max(p for p, value in by_threshold.items() if value > best - 1e-12)
    assert sweep["price_points"] == pytest.approx(100 * (best - f1(0.4)))
    table = pd.read_csv(tables / "out" / "sweep.csv").set_index("threshold")
    assert len(table) == 101
    assert table.loc[0.4, "f1_score"] == pytest.approx(results["pooled"]["f1_score"], abs=1e-5)
    assert table.loc[0.4, "price_points"] == pytest.approx(sweep["price_points"], abs=1e-3)
    assert table.loc[0.4, "found"] + table.loc[0.4, "missed"] == 60


def test_two_runs_write_the_same_bytes_and_no_path_of_the_machine(tables: Path) -> None:
    for out in ("here", "there"):
        evaluate(tables, out)
    for name in WRITTEN:
        content = (tables / "here" / name).read_bytes()
        assert content == (tables / "there" / name).read_bytes()
        assert str(tables).encode() not in content


def test_images_without_a_row_in_the_truth_are_named_and_their_detections_are_false_alarms(tables: Path) -> None:
    before, _ = evaluate(tables)
    path = tables / "detections.csv"
    path.write_text(path.read_text() + "blank.tiff,25,25,100,100,0.9\nblank.tiff,50,25,200,100,0.1\n")
    after, summary = evaluate(tables)
    assert (
        "**1 images have detections, but no row in the truth: all their detections count as false alarms.** " in summary
    )
    assert "blank.tiff" in summary
    assert after["pooled"]["n_called"] == before["pooled"]["n_called"] + 1
    assert after["pooled"]["n_regions"] == before["pooled"]["n_regions"] + 1
    assert after["pooled"]["recall"] == before["pooled"]["recall"]


def test_the_record_of_the_detections_says_which_images_were_searched(tables: Path) -> None:
    before, _ = evaluate(tables)
    path = tables / "detections.csv"
    images = [{"image": name} for name in [*sorted(set(pd.read_csv(path)["image"]))[1:], "blank.tiff"]]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("detections.csv.json").write_text(
        json.dumps({"csv_sha256": digest, "bundle": {"threshold": 0.4}, "images": images})
    )
    after, summary = evaluate(tables)
    assert after["pooled"]["n_regions"] == before["pooled"]["n_regions"] + 1  # blank.tiff holds nothing
    assert "**1 images of the truth were not searched, as detections.csv.json says: all their figures " in summary


def test_no_detection_is_a_result(tables: Path) -> None:
    (tables / "detections.csv").write_text("image,x_um,y_um,x_px,y_px,p_mitosis\n")
    results, summary = evaluate(tables)
    assert {path.name for path in (tables / "out").iterdir()} == WRITTEN
    assert (results["pooled"]["recall"], results["pooled"]["AP"], results["pooled"]["froc_auc"]) == (0, 0, None)
    assert results["pooled"]["sweep"] is None
    assert "| all regions | 12 | 0 of 60 | 0 | 0.000 [0.000, 0.000] |" in summary


def test_one_slide_has_no_intervals_and_no_figure_no_ap(tables: Path) -> None:
    table = pd.read_csv(tables / "truth.csv")
    table.assign(case="H0").to_csv(tables / "truth.csv", index=False)
    results, summary = evaluate(tables)
    assert results["pooled"]["intervals"] is None
    assert "so there are no intervals" in summary
    table.assign(label="hard negative").to_csv(tables / "truth.csv", index=False)
    results, summary = evaluate(tables)
    assert (results["pooled"]["AP"], results["pooled"]["intervals"]) == (None, None)
    assert json.loads((tables / "out" / "metrics.json").read_text())["aggregates"]["AP"] == -1
    assert "- all regions: there is no mitotic figure, so AP is not defined." in summary


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--detections detections.csv", "--detections needs --truth: got none"),
        (
            "--detections detections.csv --truth truth.csv --labels folders",
            "--labels cannot be combined with --detections",
        ),
        ("--detections d.csv --truth truth.csv", "d.csv does not exist: got no such file"),
        ("--detections detections.csv --truth truth.csv --threshold 2", "the threshold is unusable: got 2.0"),
        ("--predictions p.csv --labels folders --truth t.csv", "--truth cannot be combined with --predictions"),
        ("--predictions p.csv --labels folders --mpp 1", "--mpp cannot be combined with --predictions"),
        ("--predictions-json p.json --ground-truth g.json --mpp 1", "--mpp cannot be combined with --predictions-json"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    arguments: str, line: str, tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tables)
    assert main(["evaluate", *arguments.split(), "--out", "out"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {line}")
    assert not (tables / "out").exists()
