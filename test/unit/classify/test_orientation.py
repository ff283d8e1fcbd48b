from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mitoscope.classify.classifier import Classifier
from mitoscope.classify.orientation import choose_orientations, find_standard, from_standard, to_standard
from mitoscope.networks.views import ORIENTATIONS

EVERY = range(ORIENTATIONS)


def _turn_crops(crops: np.ndarray, orientation: int) -> np.ndarray:
    """uint8 (N, S, S, 3) in one of the eight orientations."""
    turned = np.rot90(crops, orientation % 4, (1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if orientation >= 4 else turned)


@pytest.mark.parametrize("orientation", EVERY)
def test_a_crop_has_one_standard_orientation(stack: np.ndarray, orientation: int) -> None:
    crops, turned = torch.as_tensor(stack), torch.as_tensor(_turn_crops(stack, orientation))
    assert torch.equal(to_standard(turned, find_standard(turned)), to_standard(crops, find_standard(crops)))


def test_the_standard_orientation_is_the_brightest_above_and_on_the_left(stack: np.ndarray) -> None:
    crops = torch.as_tensor(stack)
    standard = to_standard(crops, find_standard(crops)).double()
    quarters = standard.sum(3).unflatten(2, (2, 64)).unflatten(1, (2, 64)).sum((2, 4))  # (N, 2, 2)
    assert (quarters[:, 0].sum(1) >= quarters[:, 1].sum(1)).all()
    assert (quarters[:, :, 0].sum(1) >= quarters[:, :, 1].sum(1)).all()
    assert (quarters[:, 0, 1] >= quarters[:, 1, 0]).all()


def test_a_crop_of_one_colour_stays() -> None:
    crops = torch.full((2, 128, 128, 3), 200, dtype=torch.uint8)
    assert not find_standard(crops).any()


def test_the_standard_orientation_is_undone(stack: np.ndarray) -> None:
    crops = torch.as_tensor(stack)
    flips = find_standard(crops)
    assert flips.any(dim=1).all()  # each of the three flips is tried
    assert torch.equal(from_standard(to_standard(crops, flips), flips), crops)


def test_members_see_different_orientations() -> None:
    assert [choose_orientations(member, 1) for member in range(5)] == [(0,), (3,), (6,), (1,), (4,)]
    assert sorted(sum((choose_orientations(member, 2) for member in range(4)), ())) == list(EVERY)
    assert sorted(choose_orientations(1, 8)) == list(EVERY)
    assert choose_orientations(3, 0) == ()


@pytest.fixture(scope="module")
def as_they_come(tiny_bundle: str) -> Classifier:
    return Classifier.load(tiny_bundle, device="cpu")


@pytest.fixture(scope="module")
def give_orientations(as_they_come: Classifier) -> Callable[[int], Classifier]:
    """Makes a classifier whose members see each crop in so many orientations."""

    def give(count: int) -> Classifier:
        members = tuple(
            replace(member, orientations=choose_orientations(number, count))
            for number, member in enumerate(as_they_come.bundle.members)
        )
        bundle = replace(as_they_come.bundle, members=members)
        return Classifier(bundle, as_they_come.members, as_they_come.device, as_they_come.precision)

    return give


@pytest.mark.parametrize("orientation", EVERY)
def test_no_turn_changes_a_bit_of_a_probability(
    give_orientations: Callable[[int], Classifier], stack: np.ndarray, orientation: int
) -> None:
    classifier = give_orientations(1)
    turned = classifier.predict_members(_turn_crops(stack, orientation))
    np.testing.assert_array_equal(turned, classifier.predict_members(stack))


def test_without_orientations_a_turn_changes_probabilities(as_they_come: Classifier, stack: np.ndarray) -> None:
    turned = as_they_come.predict_members(_turn_crops(stack, 1))
    assert np.abs(turned - as_they_come.predict_members(stack)).max() > 1e-4


def test_all_eight_orientations_are_averaged(
    as_they_come: Classifier, give_orientations: Callable[[int], Classifier], stack: np.ndarray
) -> None:
    expected = np.mean([as_they_come.predict_members(_turn_crops(stack, k)) for k in EVERY], axis=0)
    np.testing.assert_allclose(give_orientations(8).predict_members(stack), expected, atol=1e-6)
