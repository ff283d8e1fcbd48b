import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score

import mitoscope.scoring.metrics.bootstrap
from mitoscope.errors import DataError
from mitoscope.scoring.metrics.bootstrap import bootstrap, bootstrap_rule
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.thresholds import otsu

RANDOM = np.random.default_rng(0)
TRUTH = np.arange(400) % 4 == 0
SCORES = RANDOM.beta(2, 5, 400) * 0.7 + TRUTH * 0.25
CALLED = SCORES >= 0.4
CASE = np.array([f"slide{row}" for row in RANDOM.integers(0, 30, 400)], dtype=object)
SHARES = ("roc_auc", "balanced_accuracy", "sensitivity", "specificity")


@pytest.mark.parametrize("is_refitted", [False, True], ids=["fixed", "refitted"])
def test_intervals_are_those_of_a_plain_loop_over_drawn_cases(is_refitted: bool) -> None:
    if is_refitted:
        got = bootstrap_rule(TRUTH, SCORES, otsu, CASE, n_draws=60, seed=3)
    else:
        got = bootstrap(TRUTH, SCORES, CALLED, CASE, n_draws=60, seed=3)
    cases, samples = list(dict.fromkeys(CASE)), []
    for drawn in np.random.default_rng(3).integers(len(cases), size=(60, len(cases))):
        rows = np.concatenate([np.flatnonzero(cases[number] == CASE) for number in drawn])
        truth, scores = TRUTH[rows], SCORES[rows]
        called = scores >= (otsu(truth, scores) if is_refitted else 0.4)
        samples.append(
            [
                roc_auc_score(truth, scores),
                balanced_accuracy_score(truth, called),
                recall_score(truth, called),
                recall_score(~truth, ~called),
            ]
        )
    for number, name in enumerate(SHARES):
        expected = np.percentile(np.array(samples)[:, number], (2.5, 97.5))
        assert getattr(got, name) == pytest.approx(expected, rel=0, abs=1e-12)
    assert got.threshold_refitted == is_refitted


def test_each_interval_holds_its_metric() -> None:
    got, at = bootstrap(TRUTH, SCORES, CALLED, CASE), compute_metrics(TRUTH, SCORES, CALLED)
    for name in SHARES:
        low, high = getattr(got, name)
        assert 0 <= low < at[name] < high <= 1


def test_a_seed_makes_the_intervals_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    scarce = TRUTH & np.isin(CASE, ["slide1", "slide2"])  # so that some draws are replaced
    first = bootstrap(scarce, SCORES, CALLED, CASE, n_draws=300, seed=1)
    monkeypatch.setattr(mitoscope.scoring.metrics.bootstrap, "CHUNK_CELLS", 7 * 400)
    assert bootstrap(scarce, SCORES, CALLED, CASE, n_draws=300, seed=1) == first
    assert first.n_redrawn > 0
    assert bootstrap(scarce, SCORES, CALLED, CASE, n_draws=300, seed=2).roc_auc != first.roc_auc


def test_copies_of_a_crop_in_one_case_are_no_new_evidence() -> None:
    once = bootstrap(TRUTH, SCORES, CALLED)
    truth, scores, case = (np.repeat(each, 9) for each in (TRUTH, SCORES, np.arange(400)))
    clustered, loose = bootstrap(truth, scores, scores >= 0.4, case), bootstrap(truth, scores, scores >= 0.4)
    for name in SHARES:
        assert getattr(clustered, name) == pytest.approx(getattr(once, name), abs=1e-12)
        assert np.ptp(getattr(clustered, name)) > 2 * np.ptp(getattr(loose, name))


def test_19_of_20_intervals_hold_the_truth_where_the_crops_of_a_case_are_alike() -> None:
    random, case, truth = np.random.default_rng(5), np.repeat(np.arange(40), 8), np.arange(320) % 4 == 0
    held = {"clustered": 0, "loose": 0}
    for _ in range(200):
        logit = random.normal(size=40)[case] + random.normal(size=320) + 1.5 * truth
        for name, cases in (("clustered", case), ("loose", None)):
            low, high = bootstrap(truth, 1 / (1 + np.exp(-logit)), logit >= 0, cases, n_draws=200).specificity
            held[name] += low <= 0.5 <= high  # half of all normal crops have a logit below 0
    assert 180 <= held["clustered"] <= 196
    assert held["loose"] < 160


def test_crops_of_unknown_case_are_drawn_one_by_one_and_counted() -> None:
    partly = CASE.copy()
    partly[:5], partly[5:9] = None, np.nan
    got = bootstrap(TRUTH, SCORES, CALLED, partly, n_draws=50)
    assert (got.n_cases, got.n_without_case) == (len(set(CASE[9:])), 9)
    nowhere = bootstrap(TRUTH, SCORES, CALLED, n_draws=50)
    assert (nowhere.n_cases, nowhere.n_without_case) == (0, 400)
    apart = bootstrap(TRUTH, SCORES, CALLED, np.arange(400), n_draws=50)
    assert apart == replace(nowhere, n_cases=400, n_without_case=0)


def test_a_draw_that_lacks_a_class_is_replaced_and_counted() -> None:
    truth, scores = np.array([True, False, False, False]), np.array([0.9, 0.2, 0.3, 0.1])
    got = bootstrap(truth, scores, scores >= 0.5, n_draws=1000)
    # All four draws miss the atypical crop in (3/4)^4 of all draws, all hit it in (1/4)^4.
    lacking = 0.75**4 + 0.25**4
    assert got.n_draws == 1000
    assert got.n_redrawn == pytest.approx(1000 * lacking / (1 - lacking), rel=0.15)
    assert got.roc_auc == (1.0, 1.0)


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(DataError, match="no interval can be drawn: got 400 crops of one case, expected two cases"):
        bootstrap(TRUTH, SCORES, CALLED, np.full(400, "slide1"))
    with pytest.raises(DataError, match=r"the cases do not match the predictions: got shape \(399,\) for 400 crops"):
        bootstrap(TRUTH, SCORES, CALLED, CASE[1:])
    with pytest.raises(DataError, match="the classes do not match the predictions: got int64"):
        bootstrap(TRUTH, SCORES, TRUTH.astype(int))
    with pytest.raises(DataError, match="a class is missing"):
        bootstrap(TRUTH & False, SCORES, CALLED)
    with pytest.raises(DataError, match="no threshold can part the scores"):
        bootstrap_rule(TRUTH, SCORES * 0 + 0.5, otsu)


@pytest.mark.parametrize("case", [None, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]])
def test_a_share_of_one_is_not_certain(case):
    is_atypical = np.array([True, False] * 6)
    p_atypical = np.where(is_atypical, 0.9, np.linspace(0, 1, 12))  # every atypical crop is found
    got = bootstrap(is_atypical, p_atypical, p_atypical >= 0.5, case)
    z2 = 1.959963984540054**2  # Wilson's bound for 6 of 6, written out
    assert got.sensitivity == pytest.approx((6 / (6 + z2), 1.0))
    assert got.specificity != got.sensitivity
    got = bootstrap(~is_atypical, 1 - p_atypical, p_atypical <= 0.5, case)
    assert got.specificity == pytest.approx((6 / (6 + z2), 1.0))
    whole = bootstrap(is_atypical, is_atypical * 0.9, is_atypical, case)  # no error at all
    assert whole.balanced_accuracy == pytest.approx((1 - math.hypot(z2 / (6 + z2), z2 / (6 + z2)) / 2, 1.0))
    missed = bootstrap(is_atypical, np.where(is_atypical, 0.1, 0.2), is_atypical & False, case)
    assert missed.sensitivity == pytest.approx((0.0, z2 / (6 + z2)))
