import pytest
import torch

from mitoscope.training.detect.candidates import find_candidates, merge


def grids(p_at: dict[tuple[int, int], float]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """One tile of 64 px, two classes; probabilities of the second by cell of the finest grid, boxes of 20 px."""
    logits = [torch.full((1, 2, side, side), -9.0) for side in (8, 4, 2)]
    for (y, x), p in p_at.items():
        logits[0][0, 1, y, x] = torch.logit(torch.tensor(p))
    return logits, [torch.full((1, 4, side, side), 10.0) for side in (8, 4, 2)]


def test_candidates_are_boxes_around_their_cells() -> None:
    (found,) = find_candidates(grids({(2, 5): 0.9, (6, 1): 0.3, (0, 0): 0.04}), floor=0.05)
    expected = torch.tensor([[30.0, 6, 50, 26, 0.9, 1], [-2, 38, 18, 58, 0.3, 1]])
    torch.testing.assert_close(found, expected)


def test_boxes_of_one_figure_become_one_and_neighbours_stay() -> None:
    (found,) = find_candidates(grids({(2, 5): 0.9, (2, 6): 0.8, (2, 2): 0.7}), floor=0.05)
    assert merge(found)[:, 4].tolist() == pytest.approx([0.9, 0.7])
    found[1, 5] = 0  # another class
    assert len(merge(found)) == 3
