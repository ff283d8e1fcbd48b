import numpy as np
import pandas as pd
import pytest

from mitoscope.scoring.metrics.judge import judge, make_groups
from mitoscope.scoring.report.overview import (
    count_crops,
    count_outcomes,
    describe_intervals,
    describe_metrics,
    make_histogram,
)

TABLE = pd.DataFrame(
    {
        "image_id": list("abcdef"),
        "p_atypical": [0.05, 0.45, 0.5, 0.7, 1.0, 0.2],
        "class": ["normal", "normal", "atypical", "atypical", "atypical", "normal"],
        "member_0": [0.0, 0.40, 0.4, 0.7, 1.0, 0.2],
        "member_1": [0.1, 0.50, 0.6, 0.7, 1.0, 0.2],
        "label": ["normal", "atypical", "normal", "atypical", "atypical", "normal"],
        "domain": ["lung", "lung", "lung", "skin", "skin", None],
        "case": ["1", "2", "3", "4", "5", "6"],
    }
)


def test_outcomes_are_counted_by_label_and_class() -> None:
    assert count_outcomes(TABLE) == {"true normal": 2, "false alarm": 1, "missed": 1, "true atypical": 2}


def test_how_sure_the_networks_are_is_counted() -> None:
    counts = count_crops(TABLE, 0.5, {"a": ["stain"], "b": []})
    assert counts["n_crops"] == 6
    assert (counts["n_called"], counts["n_labelled_atypical"]) == (3, 3)
    assert counts["n_near"] == 2  # b and c; 0.05 away belongs to it
    assert counts["n_split"] == 2  # b: 0.5 is from the threshold on; and c
    assert counts["n_apart"] == 0
    assert counts["n_unlike"] == 1


def test_a_table_without_members_or_labels_is_counted_too() -> None:
    counts = count_crops(TABLE[["image_id", "p_atypical", "class"]], 0.5, None)
    assert (counts["n_split"], counts["n_apart"], counts["n_labelled_atypical"]) == (0, 0, None)


def test_the_histogram_holds_every_crop_once() -> None:
    histogram = make_histogram(TABLE)
    assert [series["kind"] for series in histogram["series"]] == ["normal", "atypical"]
    normal, atypical = (np.array(series["counts"]) for series in histogram["series"])
    assert normal.nonzero()[0].tolist() == [1, 4, 10]
    assert atypical.nonzero()[0].tolist() == [9, 14, 19]  # 1.0 is in the last bin
    assert make_histogram(TABLE.drop(columns="label"))["series"][0]["counts"] == (normal + atypical).tolist()


@pytest.mark.parametrize(("largest", "ticks"), [(1, [0, 1]), (4, [0, 1, 2, 3, 4]), (5, [0, 2, 4]), (123, [0, 50, 100])])
def test_ticks_are_round(largest: int, ticks: list[int]) -> None:
    table = pd.DataFrame({"p_atypical": [0.5] * largest})
    assert make_histogram(table)["ticks"] == ticks


def test_metrics_have_their_intervals_and_domains_without_a_class_a_gap() -> None:
    judged = judge(TABLE, *make_groups(TABLE, 0.5, 0))
    pooled = {figure["name"]: figure for figure in describe_metrics(judged["pooled"])}
    assert pooled["Sensitivity"]["value"] == pytest.approx(2 / 3)
    assert pooled["ROC AUC"]["interval"] == judged["pooled"]["intervals"]["roc_auc"]
    skin = {figure["name"]: figure["value"] for figure in describe_metrics(judged["domains"]["skin"])}
    assert skin == {"Balanced accuracy": None, "ROC AUC": None, "Sensitivity": 1.0, "Specificity": None}


def test_the_intervals_say_what_they_were_drawn_from() -> None:
    drawn = judge(TABLE, *make_groups(TABLE, 0.5, 0))["pooled"]["intervals"]
    assert describe_intervals(drawn) == "95 % intervals: bootstrap of 6 whole cases, 2,000 draws."
    assert "The cases are not known" in describe_intervals({**drawn, "n_cases": 0, "n_without_case": 6})
    assert "Where the case is not known" in describe_intervals({**drawn, "n_cases": 3, "n_without_case": 3})
    assert "All crops are of one case, so" in describe_intervals(None)
