from pathlib import Path

import numpy as np
import pytest

from mitoscope.bundle.read import read_bundle
from mitoscope.classify.rounding import compare_probabilities
from mitoscope.detect.detector import FLOOR
from mitoscope.training.data.fields import FieldData
from mitoscope.training.detect.results.rounding import MOST_FIELDS, choose_fields, measure_roundings, pair_points

BUNDLE = Path(__file__).resolve().parents[4] / "weights" / "detector-lite"


def test_points_of_both_are_paired_and_others_count_as_the_floor() -> None:
    full = np.array([[10.0, 10, 0.9], [50, 50, 0.4], [90, 10, 0.06]])
    rounded = np.array([[11.0, 10, 0.88], [51, 50, 0.41], [200, 200, 0.07]])
    assert pair_points(full, rounded, 15.0).tolist() == [[0.9, 0.88], [0.4, 0.41], [0.06, FLOOR], [FLOOR, 0.07]]
    assert pair_points(full[:0], rounded[:0], 15.0).shape == (0, 2)
    assert pair_points(full[:0], rounded[:1], 15.0).tolist() == [[FLOOR, 0.88]]


def test_the_fields_are_spread_and_few() -> None:
    assert choose_fields(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    assert len(choose_fields(np.arange(500))) == MOST_FIELDS
    assert choose_fields(np.arange(500))[-1] > 450


def test_each_precision_is_measured_by_what_it_finds(fields: FieldData) -> None:
    """The spots of the test's fields are no figures, but the weights in git give some of them small probabilities."""
    threshold = read_bundle(BUNDLE).threshold.value
    done: list[int] = []
    measured = measure_roundings(BUNDLE, threshold, fields, np.arange(1), done.append)
    assert done == [1] * 3
    assert list(measured) == ["fp16", "bf16"]
    assert measured["fp16"].n_crops > 0
    assert 0 < measured["fp16"].largest_change < measured["bf16"].largest_change < 0.3
    nothing = measure_roundings(BUNDLE, threshold, fields, np.arange(0))
    assert nothing == {}


def test_a_call_that_changes_is_counted() -> None:
    compared = compare_probabilities(np.array([0.9, 0.4, 0.2, 0.51]), np.array([0.8, 0.41, 0.2, 0.49]), 0.5)
    assert (compared.n_crops, compared.flipped) == (4, 0.25)
    assert compared.largest_change == pytest.approx(0.1)
