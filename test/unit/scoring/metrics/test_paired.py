import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from mitoscope.errors import DataError
from mitoscope.scoring.labels import LabelTable
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.delong import delong
from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.metrics.paired import bootstrap_lead, compare

RANDOM = np.random.default_rng(0)
TRUTH = np.arange(120) % 4 == 0
FIRST = (RANDOM.beta(2, 5, 120) * 0.7 + TRUTH * 0.25).round(6)
SECOND = (0.5 * FIRST + 0.5 * RANDOM.random(120)).round(6)
CASE = np.array([f"slide{row // 4}" for row in range(120)], dtype=object)
A, B = (Group.at_threshold("all crops", TRUTH, p, 0.4, CASE, seed=3) for p in (FIRST, SECOND))


def test_the_lead_is_that_of_a_plain_loop_over_drawn_cases() -> None:
    got = bootstrap_lead(A, B, n_draws=80)
    cases, leads = list(dict.fromkeys(CASE)), []
    for drawn in np.random.default_rng(3).integers(len(cases), size=(80, len(cases))):
        rows = np.concatenate([np.flatnonzero(cases[number] == CASE) for number in drawn])
        leads.append([
            measure(TRUTH[rows], first[rows]) - measure(TRUTH[rows], second[rows])
            for measure, first, second in ((roc_auc_score, FIRST, SECOND),
                                           (balanced_accuracy_score, FIRST >= 0.4, SECOND >= 0.4))
        ])  # fmt: skip
    for name, drawn in zip(("roc_auc", "balanced_accuracy"), np.array(leads).T, strict=True):
        low, high = np.percentile(drawn, (2.5, 97.5))
        assert got[name].interval == pytest.approx((low, high), rel=0, abs=1e-12)
        rarer = min((drawn <= 1e-15).sum(), (drawn >= -1e-15).sum())
        assert got[name].p_value == pytest.approx(min(1, 2 * (1 + rarer) / 81))
        assert got[name].difference == pytest.approx(
            compute_metrics(TRUTH, FIRST, FIRST >= 0.4)[name] - compute_metrics(TRUTH, SECOND, SECOND >= 0.4)[name]
        )


def test_a_prediction_leads_itself_by_nothing() -> None:
    for lead in bootstrap_lead(A, A, n_draws=50).values():
        assert (lead.difference, lead.interval, lead.p_value) == (0, (0, 0), 1)


def test_a_clear_lead_is_seen_and_turns_with_the_order() -> None:
    random = np.random.default_rng(1)
    worse = Group.at_threshold("all crops", TRUTH, random.random(120), 0.4, CASE, seed=3)
    there, back = bootstrap_lead(A, worse, n_draws=400), bootstrap_lead(worse, A, n_draws=400)
    for name in there:
        assert there[name].interval[0] > 0
        assert there[name].p_value < 0.05
        assert back[name].interval == pytest.approx(tuple(-bound for bound in there[name].interval[::-1]))


def test_copies_of_crops_in_one_case_are_no_new_evidence() -> None:
    def copy(group: Group, n: int, case: np.ndarray | None) -> Group:
        return Group.at_threshold("all crops", np.repeat(TRUTH, n), np.repeat(group.p_atypical, n), 0.4, case, seed=3)

    once = bootstrap_lead(copy(A, 1, None), copy(B, 1, None), n_draws=300)
    clustered, loose = (
        bootstrap_lead(copy(A, 9, case), copy(B, 9, case), n_draws=300) for case in (np.repeat(np.arange(120), 9), None)
    )
    assert clustered["roc_auc"].interval == pytest.approx(once["roc_auc"].interval, abs=1e-12)
    assert np.ptp(clustered["roc_auc"].interval) > 2 * np.ptp(loose["roc_auc"].interval)


@pytest.fixture
def write(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two predictions in different orders, and labels with two domains of both classes and one of atypical crops."""
    paths = []
    for name, p in (("a.csv", FIRST), ("b.csv", SECOND)):
        table = pd.DataFrame({"image_id": [f"crop{row}" for row in range(120)], "p_atypical": p,
                              "class": np.where(p >= 0.4, "atypical", "normal")})  # fmt: skip
        paths.append(tmp_path / name)
        (table if name == "a.csv" else table.sample(frac=1, random_state=0)).to_csv(paths[-1], index=False)
    domain = np.where(np.arange(120) < 60, "lung", "skin").astype(object)
    domain[[0, 4]] = "bone"
    labels = pd.DataFrame({"image_id": [f"crop{row}" for row in range(120)], "case": CASE, "domain": domain,
                           "label": np.where(TRUTH, "atypical", "normal")})  # fmt: skip
    labels.to_csv(tmp_path / "labels.csv", index=False)
    return paths[0], paths[1], tmp_path / "labels.csv"


def test_two_files_are_compared_crop_by_crop_whatever_their_order(
    write: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, second, labels = write
    summary = compare(first, second, LabelTable(labels), tmp_path / "out", 3)
    got = json.loads((tmp_path / "out" / "comparison.json").read_text())
    test = delong(TRUTH, FIRST, SECOND)
    assert got["pooled"]["delong"]["p_value"] == pytest.approx(test.p_value)
    assert got["pooled"]["delong"]["difference"] == pytest.approx(test.difference)
    assert got["pooled"]["roc_auc"]["first"] == pytest.approx(roc_auc_score(TRUTH, FIRST))
    assert got["pooled"]["roc_auc"]["second"] == pytest.approx(roc_auc_score(TRUTH, SECOND))
    expected = bootstrap_lead(A, B)
    for name, lead in expected.items():
        assert got["pooled"][name]["bootstrap"]["interval"] == pytest.approx(list(lead.interval))
        assert got["pooled"][name]["bootstrap"]["p_value"] == lead.p_value
    assert list(got["domains"]) == ["lung", "skin"]
    assert got["one_class"] == ["bone"]
    assert "- bone: its crops are all of one class" in summary
    assert (tmp_path / "out" / "comparison.md").read_text() == summary
    assert str(tmp_path) not in json.dumps(got) + summary


def test_one_case_leaves_delong_s_test_alone(write: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, second, labels = write
    pd.read_csv(labels).assign(case="slide1").to_csv(labels, index=False)
    summary = compare(first, second, LabelTable(labels), tmp_path / "out", 0)
    got = json.loads((tmp_path / "out" / "comparison.json").read_text())["pooled"]
    assert got["roc_auc"]["bootstrap"] is None
    assert 0 < got["delong"]["p_value"] < 1
    assert "| all crops | balanced accuracy | " in summary
    assert "(one case)" in summary


def test_predictions_of_other_crops_are_refused(write: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, second, labels = write
    pd.read_csv(second).iloc[1:].to_csv(second, index=False)
    with pytest.raises(DataError, match="1 labels have no prediction"):
        compare(first, second, LabelTable(labels), tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_classes_that_contradict_their_probabilities_are_named(write: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, second, labels = write
    table = pd.read_csv(second)
    table.assign(p_atypical=1 - table["p_atypical"]).to_csv(second, index=False)
    lines = compare(first, second, LabelTable(labels), tmp_path / "out", 0).splitlines()
    (line,) = [line for line in lines if "no threshold gives its classes" in line]
    assert line.startswith("- B: b.csv")
