import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.scoring.detection.bootstrap import bootstrap_region_lead, bootstrap_regions
from mitoscope.scoring.detection.compare import compare_detections
from mitoscope.scoring.detection.metrics import METRICS
from mitoscope.scoring.detection.regions import Group, make_groups
from mitoscope.scoring.detection.tables import join_truth, read_detections, read_truth


def read_groups(tables: Path) -> list[Group]:
    """All regions with the better points, and with the worse ones."""
    both = [read_detections(tables / name, 0.4) for name in ("detections.csv", "worse.csv")]
    return [make_groups(regions, 0.4)[0] for regions in join_truth(both, read_truth(tables / "truth.csv"), None)]


def test_the_better_detector_leads(tables: Path) -> None:
    paths = [tables / name for name in ("detections.csv", "worse.csv", "truth.csv", "out")]
    summary = compare_detections(*paths, thresholds=(0.4, 0.4))
    results = json.loads((tables / "out" / "comparison.json").read_text())
    assert (tables / "out" / "comparison.md").read_text() == summary
    for name in METRICS:
        row = results["pooled"][name]
        assert row["bootstrap"]["difference"] == pytest.approx(row["first"] - row["second"])
        low, high = row["bootstrap"]["interval"]
        assert low <= row["bootstrap"]["difference"] <= high
    for name in ("f1_score", "precision", "AP", "froc_auc"):
        assert results["pooled"][name]["bootstrap"]["difference"] > 0
    assert results["pooled"]["AP"]["bootstrap"]["p_value"] < 0.05
    assert list(results["domains"]) == ["breast", "lung"]
    assert "| all regions | FROC AUC (of 8) |" in summary
    assert "- A: detections.csv, SHA-256 " in summary


def test_images_that_a_detector_did_not_search_are_named(tables: Path) -> None:
    path = tables / "worse.csv"
    record = {"csv_sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bundle": {"threshold": 0.4}}
    searched = sorted(set(pd.read_csv(path)["image"]))[1:]
    record["images"] = [{"image": name} for name in searched]
    path.with_name("worse.csv.json").write_text(json.dumps(record))
    n_images = pd.read_csv(tables / "truth.csv")["image"].nunique()
    summary = compare_detections(tables / "detections.csv", path, tables / "truth.csv", tables / "out")
    assert f"**{n_images - len(searched):,} images of the truth were not searched by B: all their figures" in summary
    assert "searched by A" not in summary


def test_one_image_at_two_scales_is_refused(tables: Path) -> None:
    table = pd.read_csv(tables / "worse.csv")
    table[["x_um", "y_um"]] *= 1.2
    table.to_csv(tables / "worse.csv", index=False)
    with pytest.raises(
        DataError, match=r"the detections differ in µm per pixel: got .*detections\.csv: .*worse\.csv: "
    ):
        compare_detections(*(tables / name for name in ("detections.csv", "worse.csv", "truth.csv", "out")))


def test_a_detector_does_not_differ_from_itself(tables: Path) -> None:
    group = read_groups(tables)[0]
    leads = bootstrap_region_lead(group, group, seed=0, n_draws=50)
    assert {(lead.difference, lead.interval, lead.p_value) for lead in leads.values()} == {(0, (0, 0), 1)}


def test_whole_cases_are_drawn(tables: Path) -> None:
    by_case = bootstrap_regions(read_groups(tables)[0], seed=0, n_draws=200)
    assert (by_case.n_cases, by_case.n_without_case, by_case.n_draws) == (4, 0, 200)
    assert by_case == bootstrap_regions(read_groups(tables)[0], seed=0, n_draws=200)
    assert by_case != bootstrap_regions(read_groups(tables)[0], seed=1, n_draws=200)
    table = pd.read_csv(tables / "truth.csv").drop(columns="case")
    table.to_csv(tables / "truth.csv", index=False)
    by_image = bootstrap_regions(read_groups(tables)[0], seed=0, n_draws=200)
    assert (by_image.n_cases, by_image.n_without_case) == (0, 12)


def test_two_tables_are_compared_by_the_command(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tables)
    arguments = ["compare", "detections.csv", "worse.csv", "--out", "out"]
    assert main([*arguments, "--truth", "truth.csv", "--thresholds", "0.4", "0.5"]) == 0
    assert "threshold 0.5000, from --threshold" in capsys.readouterr().out
    for more, line in (
        ([], "compare needs --labels or --truth: got none"),
        (["--truth", "truth.csv", "--labels", "folders"], "--labels cannot be combined with --truth"),
        (["--labels", "folders", "--mpp", "1"], "--mpp cannot be combined with --labels"),
    ):
        assert main([*arguments, *more]) == 1
        assert capsys.readouterr().err.startswith(f"error: {line}")
