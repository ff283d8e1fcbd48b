import numpy as np
import pytest

from mitoscope.detect.points import keep_distinct, merge_points


def test_of_near_points_the_most_probable_is_kept() -> None:
    points = np.array([[0, 0, 0.5], [3, 4, 0.9], [6, 8, 0.4], [30, 0, 0.2]], float)
    assert keep_distinct(points, 5).tolist() == [[3, 4, 0.9], [30, 0, 0.2]]
    assert keep_distinct(points, 4.99).tolist() == [[3, 4, 0.9], [0, 0, 0.5], [6, 8, 0.4], [30, 0, 0.2]]


def test_no_point_stays_no_point() -> None:
    assert keep_distinct(np.empty((0, 3)), 5).shape == (0, 3)


def test_voters_are_averaged_by_place_and_probability() -> None:
    points = np.array([[0, 0, 0.9], [4, 0, 0.3], [1, 0, 0.2], [50, 50, 0.6]], float)
    merged = merge_points(points, np.array([0, 1, 1, 2]), 3, 10)
    assert merged[0] == pytest.approx([4 * 0.3 / 1.2, 0, 1.2 / 3])  # the second voter's best point counts, once
    assert merged[1] == pytest.approx([50, 50, 0.6 / 3])


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_points_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.integers(0, 40, (60, 2)), rng.integers(1, 5, 60) / 5])
    voters = rng.integers(0, 3, 60)
    order = rng.permutation(60)
    first, second = merge_points(points, voters, 3, 7), merge_points(points[order], voters[order], 3, 7)
    assert np.array_equal(first, second)
    kept = keep_distinct(first, 7)
    apart = np.linalg.norm(kept[:, None, :2] - kept[None, :, :2], axis=2) + 1e9 * np.eye(len(kept))
    assert apart.min() > 7


def test_one_voter_is_the_case_of_several_that_is_computed_faster() -> None:
    random = np.random.default_rng(0)
    points = np.column_stack([random.random((400, 2)).round(2) * 100, random.random(400).round(1) + 0.1])  # with ties
    alone, of_two = (merge_points(points, np.zeros(400, int), n_voters, 5) for n_voters in (1, 2))
    assert 50 < len(alone) < 400
    np.testing.assert_array_equal(alone, of_two * (1, 1, 2))  # the second voter found nothing
