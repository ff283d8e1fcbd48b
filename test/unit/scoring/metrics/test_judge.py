import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.judge import find_domains, judge, make_groups

TRUTH = np.arange(120) % 4 == 0
SCORES = (np.random.default_rng(0).beta(2, 5, 120) * 0.7 + TRUTH * 0.25).round(6)
DOMAIN = np.where(np.arange(120) < 50, "10", np.where(np.arange(120) < 100, "2", "lung")).astype(object)


def make_table(called: np.ndarray = SCORES >= 0.4) -> pd.DataFrame:
    """120 crops in three domains; one of them is all normal, four crops are of none."""
    table = pd.DataFrame(
        {
            "image_id": [f"crop{row}" for row in range(120)],
            "p_atypical": SCORES,
            "class": np.where(called, "atypical", "normal"),
            "member_0": SCORES,
            "member_1": 1 - SCORES,
            "label": np.where(TRUTH, "atypical", "normal"),
            "domain": DOMAIN,
            "case": [f"slide{row // 5}" for row in range(120)],
        }
    )
    table.loc[(table["domain"] == "lung") & TRUTH, "domain"] = None
    return table


def test_domains_are_ordered_as_numbers_then_as_words() -> None:
    domains = find_domains(make_table())
    assert list(domains) == ["2", "10", "lung"]
    assert domains["2"].tolist() == (DOMAIN == "2").tolist()


def test_all_crops_and_each_domain_are_judged_alike() -> None:
    table = make_table()
    pooled, groups = make_groups(table, 0.4, seed=7)
    got = judge(table, pooled, groups)
    assert [group.name for group in (pooled, *groups.values())] == ["all crops", "domain 2", "domain 10"]
    for rows, row in ((np.full(120, True), got["pooled"]), (DOMAIN == "2", got["domains"]["2"])):
        for name, value in compute_metrics(TRUTH[rows], SCORES[rows], SCORES[rows] >= 0.4).items():
            assert row[name] == pytest.approx(value)
        assert row["average_precision"] == pytest.approx(average_precision_score(TRUTH[rows], SCORES[rows]))
        assert row["sweep"]["threshold"] == 0.4
        assert sum(each["n_crops"] for each in row["calibration"]["bins"]) == rows.sum()
        assert row["intervals"]["seed"] == 7
    assert got["pooled"]["intervals"]["n_cases"] == 24
    assert got["n_without_domain"] == 5
    assert got["members"] == {
        "member_0": compute_metrics(TRUTH, SCORES, SCORES >= 0.4),
        "member_1": compute_metrics(TRUTH, 1 - SCORES, 1 - SCORES >= 0.4),
    }


def test_a_domain_of_one_class_keeps_what_is_defined() -> None:
    table = make_table()
    row = judge(table, *make_groups(table, 0.4, seed=0))["domains"]["lung"]
    called = SCORES[(DOMAIN == "lung") & ~TRUTH] >= 0.4
    assert (row["n_crops"], row["n_atypical"]) == (15, 0)
    assert row["specificity"] == row["accuracy"] == pytest.approx(1 - called.mean())
    lacking = {"roc_auc", "average_precision", "balanced_accuracy", "sensitivity", "intervals", "calibration", "sweep"}
    assert {name for name, value in row.items() if value is None} == lacking
    assert row.keys() == judge(table, *make_groups(table, 0.4, seed=0))["pooled"].keys()


def test_without_a_threshold_the_classes_are_taken_as_they_stand() -> None:
    table = make_table(called=TRUTH)
    got = judge(table, *make_groups(table, None, seed=0))
    assert got["pooled"]["balanced_accuracy"] == 1
    assert got["pooled"]["roc_auc"] == pytest.approx(roc_auc_score(TRUTH, SCORES))
    assert got["pooled"]["sweep"] is None
    assert got["members"]["member_1"] == {"roc_auc": pytest.approx(roc_auc_score(TRUTH, 1 - SCORES))}


def test_one_class_in_all_is_refused() -> None:
    with pytest.raises(DataError, match="^all crops: a class is missing"):
        make_groups(make_table().assign(label="normal"), 0.4, seed=0)
