import pytest
import torch

from mitoscope.training.detect.loss import detection_loss

SHAPES = [(16, 20), (8, 10), (4, 5)]


def make_case(seed: int, n_classes: int, n_figures: tuple[int, int]) -> tuple[list[torch.Tensor], ...]:
    """Random grids of two images of 128 × 160 px, and their figures."""
    random = torch.Generator().manual_seed(seed)
    logits = [torch.randn(2, n_classes, h, w, generator=random) for h, w in SHAPES]
    distances = [
        torch.rand(2, 4, h, w, generator=random) * 4 * stride
        for (h, w), stride in zip(SHAPES, (8, 16, 32), strict=True)
    ]
    boxes, classes = [], []
    for count in n_figures:
        centre = torch.rand(count, 2, generator=random) * torch.tensor([160.0, 128.0])
        half = 10 + 20 * torch.rand(count, 2, generator=random)
        boxes.append(torch.cat([centre - half, centre + half], dim=1))
        classes.append(torch.randint(0, n_classes, (count,), generator=random))
    return logits, distances, boxes, classes


# Computed once by another implementation (LibreYOLO 1.6.0) on the same numbers; see docs/adr/0014.
GOLDEN = [
    ((0, 1, (3, 2)), (39.599827, 1.1079813)),
    ((1, 2, (4, 0)), (77.730667, 1.1756101)),
    ((2, 3, (1, 5)), (80.83419, 1.1471975)),
]


@pytest.mark.parametrize(("case", "expected"), GOLDEN)
def test_it_equals_an_independent_implementation(
    case: tuple[int, int, tuple[int, int]], expected: tuple[float, float]
) -> None:
    got = [float(part) for part in detection_loss(*make_case(*case))]
    assert got == pytest.approx(list(expected), rel=1e-5)


def test_it_falls_when_it_is_followed() -> None:
    logits, distances, boxes, classes = make_case(5, 1, (2, 1))
    free = [tensor.requires_grad_() for tensor in (*logits, *distances)]
    optimizer = torch.optim.Adam(free, lr=0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.stack(detection_loss(logits, distances, boxes, classes)).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5


def test_no_figure_anywhere_is_a_finite_loss() -> None:
    focal, boxes = detection_loss(*make_case(0, 1, (0, 0)))
    assert torch.isfinite(focal)
    assert boxes == 0
