import numpy as np
import pytest
import torch

from mitoscope.networks.views import ORIENTATIONS, turn, turn_back, turn_points_back

EVERY = range(ORIENTATIONS)


@pytest.mark.parametrize("orientation", EVERY)
def test_a_turn_is_undone(stack: np.ndarray, orientation: int) -> None:
    images = torch.as_tensor(stack).permute(0, 3, 1, 2)
    assert torch.equal(turn_back(turn(images, orientation)[:, 0], orientation), images[:, 0])


def test_the_eight_turns_differ(stack: np.ndarray) -> None:
    images = torch.as_tensor(stack[:1]).permute(0, 3, 1, 2)
    assert len({turn(images, orientation).numpy().tobytes() for orientation in EVERY}) == ORIENTATIONS


@pytest.mark.parametrize("orientation", EVERY)
def test_a_point_is_turned_back_to_its_pixel(orientation: int) -> None:
    image = torch.zeros(1, 1, 4, 7)
    image[0, 0, 1, 5] = 1
    turned = turn(image, orientation)
    y, x = turned[0, 0].nonzero()[0]
    points = torch.tensor([[x + 0.25, y + 0.75], [x + 0.5, y + 0.5]])
    back = turn_points_back(points, orientation, (4, 7))
    assert back[1].tolist() == [5.5, 1.5]
    assert [int(each) for each in back[0]] == [5, 1]
