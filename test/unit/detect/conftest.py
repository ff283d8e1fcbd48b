"""Images in memory, a network that finds drawn figures, and a bundle of two tiny RTMDets with random weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Bundle, Member, Threshold
from mitoscope.bundle.members import write_bundle
from mitoscope.detect.detector import Detector
from mitoscope.images.slide import Mpp, Slide
from mitoscope.images.source import ArraySource
from mitoscope.networks.build import build_detector
from mitoscope.networks.rtmdet import STRIDES

RADIUS_PX = 20  # of a drawn figure


class Seer(nn.Module):
    """Fires at the centre of each drawn figure that its tile shows whole, and a little less beside it.

    Args:
        logit: At the centre.
        shift_px: Added to x in the orientation that it sees.
        jitter_px: Added to x, or taken from it, by where in the tile the figure lies.
    """

    def __init__(self, logit: float = 3.0, shift_px: float = 0.0, jitter_px: float = 0.0) -> None:
        super().__init__()
        self.logit, self.shift_px, self.jitter_px, self.n_seen = logit, shift_px, jitter_px, 0

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        self.n_seen += len(images)
        shapes = [(len(images), images.shape[2] // stride, images.shape[3] // stride) for stride in STRIDES]
        logits = [torch.full((n, 1, h, w), -12.0) for n, h, w in shapes]
        distances = [torch.zeros(n, 4, h, w) for n, h, w in shapes]
        marks = (images[:, 1] == 1) & (images[:, 0] == 0)
        dark = images[:, 0] < 0.5
        for number, y, x in marks.nonzero().tolist():
            window = dark[number, max(y - RADIUS_PX, 0) : y + RADIUS_PX + 1, max(x - RADIUS_PX, 0) : x + RADIUS_PX + 1]
            if int(window.sum()) != N_DARK:
                continue
            moved = self.shift_px + self.jitter_px * (1 if x // 128 % 2 else -1)
            for grid, stride, logit in ((0, 8, self.logit), (1, 16, self.logit - 1)):
                for row, column in ((y // stride, x // stride), (y // stride - 1, x // stride)):
                    if row >= 0:
                        near = 0 if row == y // stride else 1
                        logits[grid][number, 0, row, column] = logit - near
                        right, bottom = 2 * (x + 0.5 + moved - column * stride), 2 * (y + 0.5 - row * stride)
                        distances[grid][number, :, row, column] = torch.tensor([0, 0, right, bottom])
        return logits, distances


def draw(pixels: np.ndarray, x: int, y: int) -> None:
    """A dark disc with a green pixel in its centre."""
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    pixels[(rows - y) ** 2 + (columns - x) ** 2 <= RADIUS_PX**2] = (70, 40, 110)
    pixels[y, x] = (0, 255, 0)


def count_dark() -> int:
    pixels = np.full((64, 64, 3), 230, np.uint8)
    draw(pixels, 32, 32)
    return int((pixels[..., 0] < 128).sum())


N_DARK = count_dark()


@pytest.fixture(scope="session")
def draw_figure() -> Callable[[np.ndarray, int, int], None]:
    return draw


@pytest.fixture(scope="session")
def make_slide() -> Callable[..., Slide]:
    """A function (pixels, mpp) that makes a slide of an array."""

    def make(pixels: np.ndarray, mpp: float = 0.25) -> Slide:
        return Slide(Path("drawn.tif"), ArraySource(pixels), Mpp(mpp, mpp, "tags"), ())

    return make


@pytest.fixture(scope="session")
def make_detector() -> Callable[..., Detector]:
    """A function (*members, mpp, tta) that makes a detector of stand-ins, with tiles of at most 320 px."""

    def make(*members: nn.Module, mpp: float = 0.25, tta: bool = False) -> Detector:
        bundle = make_bundle(Path("nowhere"), len(members), mpp)
        return Detector(bundle, members, torch.device("cpu"), "fp32", tta=tta)

    return make


@pytest.fixture(scope="session")
def seer() -> type[Seer]:
    return Seer


def overwrite_block(path: Path, number: int, level: int = 0) -> None:
    """Replace a tile or strip of a TIFF by zeros, which no decoder of its compression accepts."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[level]
        at, length = page.dataoffsets[number], page.databytecounts[number]
    with path.open("r+b") as opened:
        opened.seek(at)
        opened.write(bytes(length))


def make_bundle(folder: Path, n_members: int, mpp: float = 0.25) -> Bundle:
    return Bundle(
        folder=folder,
        name="tiny-detector",
        architecture="rtmdet_tiny",
        input=InputSpec(size_px=320, mpp=mpp, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        threshold=Threshold(value=0.5, rule="fixed", fitted_on="nothing", n_crops=0),
        members=tuple(Member(f"member{k}.safetensors", "") for k in range(n_members)),
        task="detect",
        classes=("mitotic figure",),
    )


@pytest.fixture(scope="session")
def detector_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of two RTMDet-tiny with random weights, and batch norms of random images."""
    torch.manual_seed(0)
    images = nn.functional.interpolate(torch.rand(4, 3, 16, 16), size=128, mode="bilinear")
    states = []
    for _ in range(2):
        network = build_detector("rtmdet_tiny", 1).train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            network(images)
        states.append(network.state_dict())
    return write_bundle(make_bundle(tmp_path_factory.mktemp("bundles") / "tiny-detector", 2), states).folder
