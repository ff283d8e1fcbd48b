import torch

from mitoscope.networks.rtmdet import make_cells
from mitoscope.training.detect.assign import assign

CELLS = make_cells([(8, 8), (4, 4), (2, 2)], torch.device("cpu"))  # of 64 × 64 px
BOX = torch.tensor([[10.0, 10, 30, 30]])
ONE = torch.tensor([0])


def boxes_around(cells: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Every cell gives the same box, wherever it is."""
    return box.expand(len(cells), 4).clone()


def test_cells_are_the_corners_of_the_grids() -> None:
    assert CELLS[[0, 1, 8, 64, 83]].tolist() == [[0, 0, 8], [8, 0, 8], [0, 8, 8], [0, 0, 16], [32, 32, 32]]


def test_only_cells_strictly_inside_of_a_box_are_taken() -> None:
    logits = torch.zeros(len(CELLS), 1)
    found = assign(logits, boxes_around(CELLS, BOX), CELLS, BOX, ONE)
    x, y = CELLS[found.figure >= 0, :2].T
    assert ((x > 10) & (x < 30) & (y > 10) & (y < 30)).all()
    assert (found.iou[found.figure >= 0] == 1).all()
    assert (found.iou[found.figure < 0] == 0).all()


def test_a_figure_takes_as_many_cells_as_boxes_overlap_it() -> None:
    logits, boxes = torch.zeros(len(CELLS), 1), torch.zeros(len(CELLS), 4)
    poor = assign(logits, boxes, CELLS, BOX, ONE)
    assert (poor.figure >= 0).sum() == 1  # always one, the nearest
    assert CELLS[poor.figure >= 0].tolist() == [[16, 16, 16]]  # in cells of 16 px, half as far as in cells of 8 px
    boxes = boxes_around(CELLS, BOX)
    assert (assign(logits, boxes, CELLS, BOX, ONE).figure >= 0).sum() == 5  # all inside: four of 8 px, one of 16 px


def test_a_cell_in_two_boxes_goes_to_the_cheaper_figure() -> None:
    two = torch.tensor([[4.0, 4, 28, 28], [12.0, 12, 36, 36]])
    logits = torch.zeros(len(CELLS), 2)
    boxes = torch.where(CELLS[:, :1] < 12, two[0], two[1])  # each cell's box: the first figure's on its left
    found = assign(logits, boxes, CELLS, two, torch.tensor([0, 1]))
    at_24 = (CELLS[:, 0] == 24) & (CELLS[:, 1] == 24) & (CELLS[:, 2] == 8)
    assert found.figure[at_24].tolist() == [1]
    assert set(found.figure.unique().tolist()) == {-1, 0, 1}


def test_an_image_without_figures_is_background() -> None:
    found = assign(torch.zeros(len(CELLS), 1), boxes_around(CELLS, BOX), CELLS, torch.zeros(0, 4), ONE[:0])
    assert (found.figure == -1).all()
