import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from mitoscope.classify.tables import (
    RECORD_KEYS,
    find_record,
    find_threshold,
    read_predictions,
)
from mitoscope.errors import DataError


@pytest.fixture
def save(tmp_path):
    """A function (text, name) that writes a file."""

    def save(text, name="t.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return save


def test_members_come_in_their_order(save):
    path = save("image_id,member_10,p_atypical,member_2,class,memberless\n007,0.1,0.5,0.9,atypical,x\n")
    table = read_predictions(path)
    assert list(table) == ["image_id", "p_atypical", "class", "member_2", "member_10"]
    assert table.iloc[0].tolist() == ["007", 0.5, "atypical", 0.9, 0.1]


def test_names_stay_as_they_are(save):
    table = read_predictions(save("image_id,p_atypical,class\nNA,0.5,atypical\n001,0.5,atypical\nnull,1,atypical\n"))
    assert list(table["image_id"]) == ["NA", "001", "null"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image_id,p_atypical\na,0.5\n", "no class"),
        ("image_id,p_atypical,class\n", "no rows"),
        ("", "cannot be read"),
        ("image_id,p_atypical,class\na,0.5,normal\na,0.6,normal\n", "names a crop twice"),
        ("image_id,p_atypical,class\na,1.5,normal\n", "p_atypical is no probability: got 1.5 for 'a'"),
        ("image_id,p_atypical,class\na,high,normal\n", "no probability: got high for 'a'"),
        ("image_id,p_atypical,class\na,0.5,AMF\n", "unknown class"),
        ("image_id,p_atypical,class,member_0\na,0.5,normal,2\n", "member_0 is no probability: got 2 for 'a'"),
        ("image_id,p_atypical,class\n,0.5,normal\n", "empty image_id: got line 2"),
    ],
)
def test_unusable_predictions_are_refused(save, text, said):
    with pytest.raises(DataError, match=said):
        read_predictions(save(text))


@pytest.mark.parametrize(
    ("classes", "threshold"),
    [
        (["normal", "normal", "atypical"], 0.7),
        (["atypical"] * 3, 0.1),
        (["normal"] * 3, 0.95),
        (["atypical", "normal", "atypical"], None),
    ],
)
def test_the_threshold_is_read_from_the_classes(classes, threshold):
    predictions = pd.DataFrame({"image_id": list("abc"), "p_atypical": [0.2, 0.5, 0.9], "class": classes})
    assert find_threshold(predictions, None) == (threshold and pytest.approx(threshold))


def test_the_threshold_parts_neighbouring_floats():
    low = 0.7
    predictions = pd.DataFrame(
        {"image_id": ["a", "b"], "p_atypical": [low, np.nextafter(low, 1)], "class": ["normal", "atypical"]}
    )
    assert low < find_threshold(predictions, None) <= np.nextafter(low, 1)


def test_the_record_knows_the_threshold(save):
    path = save("image_id,p_atypical,class\na,0.2,normal\nb,0.8,atypical\n", "p.csv")
    assert find_record(path) is None
    known = {"format": 1, **dict.fromkeys(RECORD_KEYS), "csv_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for threshold in (0.7, 0.9):
        save(json.dumps({**known, "bundle": {"threshold": threshold}}), "p.csv.json")
        predictions, record = read_predictions(path), find_record(path)
        if threshold == 0.7:
            assert find_threshold(predictions, record) == 0.7
        else:
            with pytest.raises(DataError, match="1 classes contradict the threshold of their record: got atypical for"):
                find_threshold(predictions, record)
    path.write_text(path.read_text().replace("0.2", "0.3"))
    with pytest.raises(DataError, match=r"p.csv was changed after it was made: got sha256"):
        find_record(path)


def test_a_record_that_is_none_is_refused(save):
    path = save("image_id,p_atypical,class\na,0.2,normal\n", "p.csv")
    for content in ("{}", '{"format": 1, "bundle": {"threshold": 0.5}}', '{"format": 2}', "[]", "{"):
        save(content, "p.csv.json")
        with pytest.raises(DataError, match=r"p.csv.json cannot be read: got (Key|Type|Value|JSONDecode)Error"):
            find_record(path)
