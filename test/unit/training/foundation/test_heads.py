import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from mitoscope.errors import DataError
from mitoscope.training.foundation.probe.heads import (
    GRID,
    LinearHead,
    ProbeSettings,
    choose_c,
    configure_probe,
    configure_probes,
    fit_head,
    fit_logistic,
    uni_c,
)


@pytest.fixture
def crops() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (120, 1, 6) whose first feature tells the class, and labels."""
    random = np.random.default_rng(0)
    positive = np.arange(120) % 3 == 0
    values = random.normal(size=(120, 1, 6)) * np.arange(1, 7)
    values[:, 0, 0] += 1.5 * positive
    return values, positive


def test_uni_c_gives_the_minimum_of_unis_own_loss(crops: tuple[np.ndarray, np.ndarray]) -> None:
    """Mean cross-entropy of a softmax of two outputs plus 100 / (dimension × classes) / 2 of its squared weights."""
    values, positive = crops[0][:, 0], crops[1].astype(int)
    penalty = 100 / (6 * 2)

    def loss(flat: np.ndarray) -> float:
        weight, bias = flat[:12].reshape(2, 6), flat[12:]
        chance = log_softmax(values @ weight.T + bias, axis=1)[np.arange(120), positive]
        return float(-chance.mean() + penalty / 2 * (weight**2).sum())

    found = minimize(loss, np.zeros(14), method="BFGS", options={"gtol": 1e-7}).x
    (head,) = fit_logistic(crops[0], crops[1], [uni_c(6, 120)], standardise=False)
    np.testing.assert_allclose(head.weight, found[6:12] - found[:6], rtol=1e-2, atol=1e-5)
    assert head.bias == pytest.approx(found[13] - found[12], rel=1e-2)
    assert np.abs(head.weight).max() > 1e-3


def test_standardisation_is_part_of_the_layer(crops: tuple[np.ndarray, np.ndarray]) -> None:
    values, positive = crops
    (plain,) = fit_logistic(values, positive, [0.1], standardise=True)
    (scaled,) = fit_logistic(values * 7 + 3, positive, [0.1], standardise=True)
    np.testing.assert_allclose(plain.predict(values), scaled.predict(values * 7 + 3), atol=1e-4)


def test_views_of_a_crop_count_as_one_crop(crops: tuple[np.ndarray, np.ndarray]) -> None:
    values, positive = crops
    (once,) = fit_logistic(values, positive, [0.1], standardise=True)
    (four,) = fit_logistic(np.repeat(values, 4, axis=1), positive, [0.1], standardise=True)
    np.testing.assert_allclose(once.weight, four.weight, atol=1e-3)
    assert four.predict(np.repeat(values, 4, axis=1)).shape == (120,)


def test_c_is_that_which_ranks_the_validation_crops_best(crops: tuple[np.ndarray, np.ndarray]) -> None:
    """60 features of noise beside one that tells the class: a weak penalty fits the noise."""
    random = np.random.default_rng(1)
    values = np.concatenate([crops[0], random.normal(size=(120, 1, 60))], axis=2)
    rows = np.arange(120)
    chosen = choose_c(ProbeSettings(), values, crops[1], [(rows[:60], rows[60:])])
    assert GRID[0] < chosen < GRID[-1]
    head = fit_head(ProbeSettings(), values, crops[1], rows[:60], [(rows[:60], rows[60:])])
    assert isinstance(head, LinearHead)
    assert head.c == chosen


def test_neighbours_vote(crops: tuple[np.ndarray, np.ndarray]) -> None:
    values = np.where(crops[1][:, None, None], 1.0, -1.0) * np.ones((1, 1, 6)) + 0.1 * crops[0]
    head = fit_head(configure_probe("knn", ["neighbours=5"]), values, crops[1], np.arange(90), [])
    p = head.predict(values[90:])
    assert set(np.round(p * 5, 9)) <= set(range(6))
    assert ((p > 0.5) == crops[1][90:]).all()


def test_bad_settings_and_one_class_are_one_clear_line(crops: tuple[np.ndarray, np.ndarray]) -> None:
    for name, setting in (("probe", "c=0"), ("probe", "c=many"), ("knn", "neighbours=0")):
        with pytest.raises(DataError, match="is out of range"):
            configure_probe(name, [setting])
    with pytest.raises(DataError, match="the probe nothing is unknown"):
        configure_probe("nothing", [])
    with pytest.raises(DataError, match="are of one class: got 40 crops, 0 of them positive"):
        fit_head(ProbeSettings(), crops[0], crops[1], np.flatnonzero(~crops[1])[:40], [])


def test_a_setting_changes_the_probes_that_have_it_or_is_refused() -> None:
    found = configure_probes(["probe", "knn"], ["c=0.01", "neighbours=5"])
    assert (found["probe"].c, found["knn"].neighbours) == ("0.01", 5)
    assert (found["knn"].c, found["probe"].neighbours) == (ProbeSettings.c, ProbeSettings.neighbours)
    for name, setting in (("knn", "c=0.01"), ("knn", "standardise=false"), ("probe", "neighbours=5"),
                          ("probe-uni", "kind=knn"), ("probe", "penalty=1")):  # fmt: skip
        message = f"--set {setting} changes nothing: got {name}, expected c or standardise of probe, probe-uni; "
        with pytest.raises(DataError, match=message + "neighbours of knn; remove it, or name another probe"):
            configure_probes([name], [setting])
        with pytest.raises(DataError, match=message):
            configure_probe(name, [setting])
