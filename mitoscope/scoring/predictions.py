"""Checks of predictions before any metric is computed, the same for every metric."""

import numpy as np

from mitoscope.errors import DataError

Array = np.ndarray
REMEDY = "correct the predictions or their labels"


def check_predictions(is_atypical: Array, p_atypical: Array) -> tuple[Array, Array]:
    """Refuse labelled predictions from which no metric can be computed.

    Args:
        is_atypical: bool (N,), the labels; both classes.
        p_atypical: float (N,) in [0, 1].

    Returns:
        The labels, and the probabilities as `check_probabilities` gives them.

    Raises:
        DataError: The probabilities are unusable, the lengths differ, a label is no bool, or a class is missing.
    """
    is_atypical, p_atypical = np.asarray(is_atypical), check_probabilities(p_atypical)
    if is_atypical.shape != p_atypical.shape or is_atypical.dtype != bool:
        got = f"{is_atypical.dtype} {is_atypical.shape} for {len(p_atypical)} crops"
        raise DataError("the labels do not match the predictions", got=got, expected="a bool a crop", remedy=REMEDY)
    if is_atypical.all() or not is_atypical.any():
        got = f"{len(is_atypical)} crops, all {'atypical' if is_atypical[0] else 'normal'}"
        raise DataError("a class is missing", got=got, expected="crops of both classes", remedy="score more crops")
    return is_atypical, p_atypical


def check_probabilities(p_atypical: Array) -> Array:
    """Refuse what is not a list of probabilities.

    Args:
        p_atypical: float (N,) in [0, 1], any precision; at least one.

    Returns:
        The same as float64, in which a threshold between two scores stays between them.

    Raises:
        DataError: There are none, or one is no number or outside [0, 1].
    """
    p_atypical = np.asarray(p_atypical, dtype=np.float64)
    if p_atypical.ndim != 1 or not len(p_atypical):
        raise DataError(
            "there are no predictions", got=f"shape {p_atypical.shape}", expected="a probability a crop", remedy=REMEDY
        )
    wrong = np.flatnonzero(~((p_atypical >= 0) & (p_atypical <= 1)))  # a NaN compares false
    if len(wrong):
        got = f"{p_atypical[wrong[0]]} for crop {wrong[0]} (counted from 0) and {len(wrong)} such in all"
        raise DataError("p_atypical is no probability", got=got, expected="numbers in [0, 1]", remedy=REMEDY)
    return p_atypical


def check_threshold(threshold: float) -> float:
    """Refuse a threshold that is no number or outside [0, 1].

    Raises:
        DataError: It is.
    """
    if not 0 <= threshold <= 1:
        raise DataError("the threshold is unusable", got=threshold, expected="a number in [0, 1]", remedy="correct it")
    return threshold


def call_atypical(p_atypical: Array, threshold: float) -> Array:
    """The crops that a threshold calls atypical: those whose probability is at least the threshold.

    Args:
        p_atypical: float (N,) in [0, 1].
        threshold: In [0, 1].

    Returns:
        bool (N,).

    Raises:
        DataError: The threshold is not in [0, 1].
    """
    p_atypical = np.asarray(p_atypical, dtype=np.float64)  # a float32 would round the threshold
    return np.asarray(p_atypical >= check_threshold(threshold))


def check_called(called: Array, n_crops: int) -> Array:
    """Refuse classes that are not one bool for each crop.

    Raises:
        DataError: They are not.
    """
    called = np.asarray(called)
    if called.shape != (n_crops,) or called.dtype != bool:
        got = f"{called.dtype} {called.shape} for {n_crops} crops"
        raise DataError("the classes do not match the predictions", got=got, expected="a bool a crop", remedy=REMEDY)
    return called
