from dataclasses import replace

import numpy as np
import pytest

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.bootstrap import bootstrap
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.groups import Group

TRUTH = np.arange(80) % 5 == 0
SCORES = np.random.default_rng(0).beta(2, 4, 80) * 0.7 + TRUTH * 0.2
CASE = np.arange(80) // 4
GROUP = Group.at_threshold("melanoma", TRUTH, SCORES, 0.4, CASE, seed=3)


def test_a_group_has_its_metrics_and_their_intervals() -> None:
    assert GROUP.metrics == compute_metrics(TRUTH, SCORES, SCORES >= 0.4)
    assert GROUP.intervals == bootstrap(TRUTH, SCORES, SCORES >= 0.4, CASE, seed=3)


def test_one_case_gives_no_interval() -> None:
    assert replace(GROUP, case=np.full(80, "slide1")).intervals is None
    partly = np.full(80, "slide1", dtype=object)
    partly[:3] = None
    assert replace(GROUP, case=partly).intervals is not None


def test_a_group_that_is_unusable_is_named() -> None:
    truth, scores = np.array([True, False]), np.array([0.9, 0.1])
    with pytest.raises(DataError, match="^melanoma: a class is missing: got 2 crops, all atypical"):
        Group.at_threshold("melanoma", truth | True, scores, 0.5)
    with pytest.raises(DataError, match="^melanoma: the threshold is unusable: got nan"):
        Group.at_threshold("melanoma", truth, scores, np.nan)
    with pytest.raises(DataError, match=r"^melanoma: the classes do not match the predictions: got bool \(3,\) for 2"):
        Group("melanoma", truth, scores, np.array([True, False, True]), None)
    with pytest.raises(DataError, match="^melanoma: the threshold gives other classes: got 0.95"):
        Group("melanoma", truth, scores, truth, 0.95)
