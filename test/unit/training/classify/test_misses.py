from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mitoscope.classify.classifier import Classifier
from mitoscope.training.classify.misses import (
    count_errors,
    describe_misses,
    embed,
    find_neighbours,
    group_by_experts,
    group_by_quarter,
    render_misses,
)
from mitoscope.training.data.table import CropData


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle, device="cpu", precision="fp32")


def test_errors_are_counted_by_label_in_each_group() -> None:
    is_atypical = np.array([True, True, True, False, False, False])
    p_atypical = np.array([0.1, 0.9, 0.9, 0.6, 0.5, 0.0])
    left = np.array([True, True, False, True, False, False])
    groups = {"left": left, "right": ~left, "nobody": np.zeros(6, dtype=bool)}
    found = count_errors(is_atypical, p_atypical, 0.5, {"side": groups}, np.array(list("abcabc")))["side"]
    keys = ("n_atypical", "missed", "n_normal", "false_alarms", "roc_auc")
    counts = {name: [row[key] for key in keys] for name, row in found.items()}
    assert counts == {
        "left": [2, 0.5, 1, 1.0, 0.5],
        "right": [1, 0.0, 2, 0.5, 1.0],
        "nobody": [0, None, 0, None, None],
    }
    assert found["left"]["intervals"]["missed"] == (0.0, 1.0)
    assert found["right"]["intervals"]["missed"] is None  # of one case alone
    lines = render_misses("lung", {"groups": {"side": found}}).splitlines()
    assert "| left | 2 | 0.500 [0.000, 1.000] | 1 | 1.000 | 0.500 |" in lines
    assert "| nobody | 0 | – | 0 | – | – |" in lines


def test_a_group_without_an_error_is_not_certain() -> None:
    is_atypical = np.arange(20) < 10
    everything = {"": {"all": np.ones(20, dtype=bool)}}
    row = count_errors(is_atypical, is_atypical.astype(float), 0.5, everything, np.arange(20))[""]["all"]
    assert row["intervals"]["missed"] == pytest.approx((0, 0.278), abs=1e-3)  # Wilson's of 0 in 10


def test_a_crop_counts_in_the_sub_class_of_each_expert() -> None:
    table = pd.DataFrame(
        {
            "subclass_1": ["NMF metaphase", "AMF other", None],
            "subclass_2": ["AMF other", "AMF other", None],
            "atypical_votes": [1 / 3, 1.0, np.nan],
        }
    )
    found = group_by_experts(table, np.array([False, True, False]))
    as_lists = {question: {name: mask.tolist() for name, mask in groups.items()} for question, groups in found.items()}
    assert as_lists == {
        "sub-class, by one of two experts": {"AMF other": [True, True, False], "NMF metaphase": [True, False, False]},
        "sub-class of both experts": {"the same": [False, True, False], "different": [True, False, False]},
        "experts who agree with the label": {"100%": [False, True, False], "67%": [True, False, False]},
    }
    unknown = table.assign(subclass_1=None, subclass_2=None, atypical_votes=np.nan)
    assert group_by_experts(unknown, np.zeros(3, dtype=bool)) == {}


def test_quarters_have_the_same_size_and_name_their_edges() -> None:
    groups = group_by_quarter(np.arange(8) / 7)
    assert [mask.tolist().count(True) for mask in groups.values()] == [2, 2, 2, 2]
    assert next(iter(groups)) == "0.000 to 0.250"


def test_the_nearest_training_crop_of_a_copy_is_its_original(classifier: Classifier, stack: np.ndarray) -> None:
    reference = embed(classifier, stack)
    assert reference.shape[:2] == (5, 16)
    np.testing.assert_allclose(np.linalg.norm(reference, axis=2), 1, atol=1e-5)
    nearest, distance = find_neighbours(embed(classifier, stack[[3, 11]]), reference)
    assert nearest.shape == (2, 10)
    assert nearest[:, 0].tolist() == [3, 11]
    assert (distance > 0).all()


def test_the_missed_crops_are_listed_from_the_lowest_probability_on(classifier: Classifier, stack: np.ndarray) -> None:
    table = pd.DataFrame({"image_id": list("abcdefghijklmnop"), "label": ["atypical", "normal"] * 8})
    unknown = table.assign(case=list("wxyz") * 4, subclass_1=None, subclass_2=None, atypical_votes=np.nan)
    data = CropData(unknown, stack)
    p_atypical = np.array([0.3, 0.9, 0.1, 0.0])
    assert classifier.threshold > 0.3
    found = describe_misses(data, np.arange(4), np.arange(4, 16), classifier, p_atypical)
    assert found["missed"] == ["c", "a"]
    assert found["groups"][""]["all"]["missed"] == 1
    assert found["groups"][""]["all"]["false_alarms"] == 0.5
    assert all(sum(row["n_normal"] for row in groups.values()) == 2 for groups in found["groups"].values())
