import json

import numpy as np
import pytest

from mitoscope.errors import DeviceError
from model.classification import describe_outliers, encode_result


def test_the_class_follows_the_threshold_and_the_confidence_does_not():
    records = encode_result(np.array([0.1, 0.3, 0.29999, 0.9]), threshold=0.3)
    assert [record["class"] for record in records] == ["normal", "atypical", "normal", "atypical"]
    assert [record["confidence"] for record in records] == [0.1, 0.3, 0.29999, 0.9]


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0, np.float32(0), np.float16(1), np.int64(1), 1e-300])
def test_a_confidence_is_a_json_float_even_at_the_ends(p):
    [record] = json.loads(json.dumps(encode_result([p], threshold=0.5)))
    assert isinstance(record["confidence"], float)
    assert record["confidence"] == p


@pytest.mark.parametrize("p", [np.nan, np.inf, -np.inf, -1e-9, 1 + 1e-9])
def test_an_impossible_probability_is_refused(p):
    with pytest.raises(DeviceError, match="the probability of page 2 is unusable"):
        encode_result([0.5, p], threshold=0.5)


def test_the_log_names_few_pages():
    named = [["eosin mean"]] * 1024
    line = describe_outliers([[], *named[1:]])
    assert line.startswith("1023 of 1024 pages are unlike the training crops: page 2 (eosin mean), ")
    assert line.endswith(", page 9 (eosin mean), and 1015 more")
    assert describe_outliers([["sharpness"], []]) == "1 of 2 pages is unlike the training crops: page 1 (sharpness)"
