"""A drawn slide whose figures are known, and networks that see what was drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from unit.detect.conftest import Seer, detector_bundle, draw  # noqa: F401 - a fixture

from mitoscope.bundle.read import read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector

NORMAL, ATYPICAL = (70, 40, 110), (30, 40, 200)  # RGB
FIGURES = [(200, 180), (245, 180), (420, 215), (215, 470), (505, 400), (390, 385), (700, 350), (330, 610), (610, 620),
           (800, 200), (128, 320), (640, 128)]  # x, y; the first two 45 px apart  # fmt: skip
N_ATYPICAL = 4  # the first ones
ON_GLASS = (1020, 700)  # outside of the tissue
SIZE = (760, 1100)  # height, width


class BlindToBlue(Seer):
    """Does not see a figure with a blue centre: beside a `Seer`, such a figure is below a threshold of .5."""

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        is_blue = images[:, 2:] > images[:, :1] + 0.5
        return super().forward(images.masked_fill(is_blue, 1.0))


class BlueIsAtypical(nn.Module):
    """Sure that a crop with a blue centre is atypical."""

    def forward(self, images: Tensor) -> Tensor:
        side = images.shape[2] // 2
        return 4 * (images[:, 2:, side - 3 : side + 3, side - 3 : side + 3].mean(dim=(2, 3)) - 0.9)


def draw_slide() -> np.ndarray:
    """uint8 (760, 1100, 3): tissue on the left, glass on the right, figures on both."""
    pixels = np.full((*SIZE, 3), 243, np.uint8)
    pixels[40:720, 40:900] = (215, 165, 205)
    for number, (x, y) in enumerate([*FIGURES, ON_GLASS]):
        draw(pixels, x, y)
        if number < N_ATYPICAL:
            pixels[(pixels == NORMAL).all(axis=2) & _near(x, y)] = ATYPICAL
    return pixels


def _near(x: int, y: int) -> np.ndarray:
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= 400


@pytest.fixture(scope="session")
def drawn() -> np.ndarray:
    return draw_slide()


@pytest.fixture(scope="session")
def truth(detector_bundle: Path, tiny_bundle: Path) -> tuple[Detector, Classifier]:  # noqa: F811 - a fixture
    """A detector and a classifier that see what was drawn."""
    found, kind = read_bundle(detector_bundle), read_bundle(tiny_bundle)
    cpu = torch.device("cpu")
    return (
        Detector(found, [Seer() for _ in found.members], cpu, "fp32"),
        Classifier(kind, [BlueIsAtypical() for _ in kind.members], cpu, "fp32"),
    )


@pytest.fixture(scope="session")
def unsure(detector_bundle: Path, truth: tuple[Detector, Classifier]) -> tuple[Detector, Classifier]:  # noqa: F811
    """The same, but the atypical figures are below the detector's threshold."""
    found = read_bundle(detector_bundle)
    return Detector(found, [Seer(), BlindToBlue()], torch.device("cpu"), "fp32"), truth[1]
