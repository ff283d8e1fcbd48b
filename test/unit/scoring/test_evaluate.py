import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mitoscope.errors import DataError
from mitoscope.scoring.evaluate import evaluate, evaluate_platform
from mitoscope.scoring.labels import LabelTable
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.sockets import INPUT_SLUG, OUTPUT_NAME

TRUTH = np.arange(96) % 4 == 0
SCORES = (np.random.default_rng(0).beta(2, 5, 96) * 0.7 + TRUTH * 0.25).round(6)
WRITTEN = {"metrics.json", "figures.json", "summary.md", "roc.svg", "precision_recall.svg", "confusion.svg",
           "calibration.svg", "sweep.svg"}  # fmt: skip


@pytest.fixture
def predictions_csv(tmp_path: Path) -> Path:
    table = pd.DataFrame({"image_id": [f"crop{row}" for row in range(96)], "p_atypical": SCORES,
                          "class": np.where(SCORES >= 0.4, "atypical", "normal"), "member_0": SCORES})  # fmt: skip
    table.to_csv(tmp_path / "predictions.csv", index=False)
    return tmp_path / "predictions.csv"


@pytest.fixture
def labels_csv(tmp_path: Path) -> Path:
    """Two domains of both classes, one of normal crops alone, and crops of none; four crops a slide."""
    domain = np.repeat(["breast", "lung", "skin", ""], 24).astype(object)
    domain[(domain == "skin") & TRUTH] = ""
    table = pd.DataFrame({"image_id": [f"crop{row}" for row in range(96)], "label": np.where(TRUTH, "AMF", "NMF"),
                          "domain": domain, "case": [f"slide{row // 4}" for row in range(96)]})  # fmt: skip
    table.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path / "labels.csv"


def read(out: Path) -> tuple[dict[str, dict[str, float]], dict[str, object]]:
    metrics, tree = (json.loads((out / name).read_text()) for name in ("metrics.json", "figures.json"))
    return metrics["aggregates"], tree


def test_a_table_is_judged_and_everything_is_written(predictions_csv: Path, labels_csv: Path, tmp_path: Path) -> None:
    summary = evaluate(predictions_csv, LabelTable(labels_csv), tmp_path / "out", 0.4, 5)
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    assert (tmp_path / "out" / "summary.md").read_text() == summary
    aggregates, tree = read(tmp_path / "out")
    expected = compute_metrics(TRUTH, SCORES, SCORES >= 0.4)
    for name in ("sensitivity", "specificity", "balanced_accuracy", "roc_auc", "accuracy"):
        assert aggregates[f"overall_{name}"] == pytest.approx(expected[name], rel=0, abs=1e-12)
    assert list(aggregates)[5:] == ["domain_breast", "domain_lung", "domain_skin"]
    assert aggregates["domain_skin"]["roc_auc"] is None
    assert tree["threshold"] == {"value": 0.4, "origin": "--threshold"}
    assert tree["seed"] == 5
    assert tree["inputs"]["labels"] == {"name": "labels.csv",
                                        "sha256": hashlib.sha256(labels_csv.read_bytes()).hexdigest()}  # fmt: skip
    assert tree["inputs"]["predictions"]["sha256"] == hashlib.sha256(predictions_csv.read_bytes()).hexdigest()
    assert tree["inputs"]["predictions"]["record"] is None
    assert "- skin: its 18 crops are all normal" in summary
    assert "30 crops of unknown domain" in summary


def test_two_runs_write_the_same_bytes_and_no_path_of_the_machine(
    predictions_csv: Path, labels_csv: Path, tmp_path: Path
) -> None:
    for name in ("here", "there"):
        evaluate(predictions_csv, LabelTable(labels_csv), tmp_path / name, None, 0)
    for name in WRITTEN:
        content = (tmp_path / "here" / name).read_bytes()
        assert content == (tmp_path / "there" / name).read_bytes()
        assert str(tmp_path).encode() not in content
    evaluate(predictions_csv, LabelTable(labels_csv), tmp_path / "there", None, 1)
    assert (tmp_path / "here" / "metrics.json").read_bytes() == (tmp_path / "there" / "metrics.json").read_bytes()
    assert (tmp_path / "here" / "figures.json").read_bytes() != (tmp_path / "there" / "figures.json").read_bytes()


def test_classes_that_contradict_the_probabilities_are_scored_with_a_warning(
    predictions_csv: Path, labels_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate(predictions_csv, LabelTable(labels_csv), out, None, 0)  # leaves a sweep.svg
    table = pd.read_csv(predictions_csv)
    winning = table["p_atypical"].where(table["class"] == "atypical", 1 - table["p_atypical"])
    table.assign(p_atypical=winning).drop(columns="member_0").to_csv(predictions_csv, index=False)
    summary = evaluate(predictions_csv, LabelTable(labels_csv), out, None, 0)
    assert [line for line in summary.splitlines() if "Classes and probabilities disagree" in line]
    assert {path.name for path in out.iterdir()} == WRITTEN - {"sweep.svg"}
    aggregates, tree = read(out)
    assert aggregates["overall_balanced_accuracy"] == pytest.approx(
        compute_metrics(TRUTH, SCORES, SCORES >= 0.4)["balanced_accuracy"]
    )
    assert aggregates["overall_roc_auc"] < 0.5 < compute_metrics(TRUTH, SCORES, SCORES >= 0.4)["roc_auc"]
    assert tree["threshold"] is None
    assert tree["pooled"]["sweep"] is None


def test_more_domains_than_a_picture_holds_are_named(predictions_csv: Path, labels_csv: Path, tmp_path: Path) -> None:
    table = pd.read_csv(labels_csv)
    table["domain"] = [f"tumour {chr(97 + row // 6)}" for row in range(96)]  # 16 domains of 6 crops
    table.to_csv(labels_csv, index=False)
    summary = evaluate(predictions_csv, LabelTable(labels_csv), tmp_path / "out", 0.4, 0)
    _, tree = read(tmp_path / "out")
    assert len(tree["domains"]) == 16
    assert tree["not_drawn"] == ["tumour n", "tumour o", "tumour p"]
    assert "Not in the pictures, for lack of space: tumour n, tumour o, tumour p." in summary


def test_a_domain_that_is_all_crops_is_not_drawn_twice(
    predictions_csv: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("mitoscope.scoring.evaluate.PICTURES", {"roc.svg": lambda groups, _: drawn.extend(groups)})
    pd.read_csv(labels_csv).assign(domain="breast").to_csv(labels_csv, index=False)
    evaluate(predictions_csv, LabelTable(labels_csv), tmp_path / "out", 0.4, 0)
    _, tree = read(tmp_path / "out")
    assert [group.name for group in drawn] == ["all crops"]
    assert (list(tree["domains"]), tree["not_drawn"]) == (["breast"], [])


def test_the_platform_s_files_and_the_table_of_the_same_crops_have_the_same_metrics(
    predictions_csv: Path, labels_csv: Path, tmp_path: Path
) -> None:
    jobs, truth = [], []
    for number in range(6):
        rows = slice(16 * number, 16 * number + 16)
        result = tmp_path / f"job{number}" / "output" / OUTPUT_NAME
        result.parent.mkdir(parents=True)
        answers = [{"class": "atypical" if p >= 0.4 else "normal", "confidence": p} for p in SCORES[rows].tolist()]
        result.write_text(json.dumps(answers))
        output = {"slug": OUTPUT_NAME.removesuffix(".json"), "relative_path": OUTPUT_NAME}
        jobs.append({"pk": f"job{number}", "outputs": [{"socket": output}],
                     "inputs": [{"image": {"name": f"{number}.tiff"}, "socket": {"slug": INPUT_SLUG}}]})  # fmt: skip
        labels = np.where(TRUTH[rows], "atypical", "normal").tolist()
        truth.append({"image": f"{number}.tiff", "labels": labels, "tumordomains": [number // 3] * 16})
    (tmp_path / "predictions.json").write_text(json.dumps(jobs))
    (tmp_path / "ground_truth.json").write_text(json.dumps(truth))
    summary = evaluate_platform(tmp_path / "predictions.json", tmp_path / "ground_truth.json", tmp_path / "out", 0)
    evaluate(predictions_csv, LabelTable(labels_csv), tmp_path / "table", None, 0)
    (platform, tree), (table, _) = read(tmp_path / "out"), read(tmp_path / "table")
    assert list(platform)[5:] == ["domain_0", "domain_1"]
    for name in list(platform)[:5]:
        assert platform[name] == pytest.approx(table[name], rel=0, abs=1e-12)
    below, above = SCORES[SCORES < 0.4].max(), SCORES[SCORES >= 0.4].min()
    assert below < tree["threshold"]["value"] < above
    assert "from the classes: the middle of the gap between them" in summary
    assert "96 crops of unknown case one by one" in summary
    results = [(tmp_path / f"job{number}" / "output" / OUTPUT_NAME).read_bytes() for number in range(6)]
    assert tree["inputs"]["predictions"]["results_sha256"] == [hashlib.sha256(one).hexdigest() for one in results]
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN


def test_another_threshold_judges_anew(predictions_csv: Path, labels_csv: Path, tmp_path: Path) -> None:
    evaluate(predictions_csv, LabelTable(labels_csv), tmp_path / "out", 0.6, 0)
    metrics, _ = read(tmp_path / "out")
    assert metrics["overall_sensitivity"] == pytest.approx((SCORES[TRUTH] >= 0.6).mean())
    assert metrics["overall_specificity"] == pytest.approx((SCORES[~TRUTH] < 0.6).mean())


def test_what_cannot_be_judged_is_refused_and_leaves_nothing(
    predictions_csv: Path, labels_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="the threshold is unusable: got 1.5"):
        evaluate(predictions_csv, LabelTable(labels_csv), out, 1.5, 0)
    table = pd.read_csv(labels_csv)
    table.assign(label="NMF").to_csv(labels_csv, index=False)
    with pytest.raises(DataError, match="^all crops: a class is missing"):
        evaluate(predictions_csv, LabelTable(labels_csv), out, None, 0)
    table.iloc[1:].to_csv(labels_csv, index=False)
    with pytest.raises(DataError, match="1 predictions have no label: got 'crop0'"):
        evaluate(predictions_csv, LabelTable(labels_csv), out, None, 0)
    assert not out.exists()
