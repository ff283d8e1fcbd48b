from dataclasses import replace

import numpy as np
import pytest

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.bootstrap import bootstrap
from mitoscope.scoring.metrics.classification import figures
from mitoscope.scoring.metrics.groups import Group

TRUTH = np.arange(80) % 5 == 0
SCORES = np.random.default_rng(0).beta(2, 4, 80) * 0.7 + TRUTH * 0.2
CASE = np.arange(80) // 4
GROUP = Group("melanoma", TRUTH, SCORES, 0.4, CASE, seed=3)


def test_a_group_knows_its_figures_and_their_intervals() -> None:
    assert GROUP.figures == figures(TRUTH, SCORES, 0.4)
    assert GROUP.intervals == bootstrap(TRUTH, SCORES, 0.4, CASE, seed=3)
    assert GROUP.fixed_threshold == 0.4


def test_classes_as_given_are_judged_like_those_of_a_threshold() -> None:
    as_given = replace(GROUP, threshold=SCORES >= 0.4)
    assert as_given.figures == GROUP.figures
    assert as_given.intervals == GROUP.intervals
    assert as_given.fixed_threshold is None


def test_one_case_gives_no_interval() -> None:
    assert replace(GROUP, case=np.full(80, "slide1")).intervals is None
    partly = np.full(80, "slide1", dtype=object)
    partly[:3] = None
    assert replace(GROUP, case=partly).intervals is not None


def test_a_group_that_is_unusable_is_named() -> None:
    truth, scores = np.array([True, False]), np.array([0.9, 0.1])
    with pytest.raises(DataError, match="^melanoma: a class is missing: got 2 crops, all atypical"):
        Group("melanoma", truth | True, scores, 0.5)
    with pytest.raises(DataError, match="^melanoma: the threshold is unusable: got nan"):
        Group("melanoma", truth, scores, np.nan)
    with pytest.raises(DataError, match=r"^melanoma: the classes do not match the predictions: got bool \(3,\) for 2"):
        Group("melanoma", truth, scores, np.array([True, False, True]))
