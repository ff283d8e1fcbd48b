from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from unit.detect.conftest import overwrite_block

from mitoscope.bundle.manifest import Base
from mitoscope.bundle.read import read_bundle
from mitoscope.detect.detector import Detector
from mitoscope.detect.task import check_task
from mitoscope.errors import DeviceError, InputError, WeightsError
from mitoscope.images.slide import open_slide
from mitoscope.networks.rtmdet import STRIDES

FIGURES = [(300, 260), (345, 260), (420, 215), (215, 470), (505, 400), (390, 385)]  # x, y; the first two 45 px apart
SURE = 1 / (1 + np.exp(-3))


@pytest.fixture
def tissue(draw_figure: Callable) -> np.ndarray:
    """uint8 (760, 800, 3) with drawn figures."""
    pixels = np.full((760, 800, 3), 180, np.uint8)
    for x, y in FIGURES:
        draw_figure(pixels, x, y)
    return pixels


def sort(points: np.ndarray) -> list[tuple[float, float]]:
    return sorted((round(x, 6), round(y, 6)) for x, y, _ in points.tolist())


CENTRES = sorted((x + 0.5, y + 0.5) for x, y in FIGURES)


@pytest.mark.parametrize("jitter_px", [0, 3])
def test_a_figure_is_found_once_and_only_once_wherever_the_grid_lies(
    tissue: np.ndarray, make_slide: Callable, make_detector: Callable, seer: Callable, jitter_px: float
) -> None:
    detector, step = make_detector(seer(jitter_px=jitter_px)), 128
    for offset in range(0, step, 5):
        left, top = offset, offset * 37 % step
        slide = make_slide(tissue[top : top + 620, left : left + 660])
        assert len(detector.plan(slide)) == 16
        points = detector.detect(slide)
        assert points[:, 2] == pytest.approx(SURE)
        found = points[:, :2] + (left, top)
        assert len(found) == len(CENTRES), offset
        far = np.abs(found[:, None] - np.array(CENTRES)).max(axis=2)  # (found, drawn)
        assert sorted(far.argmin(axis=1)) == list(range(len(CENTRES)))
        assert far.min(axis=1).max() == pytest.approx(jitter_px)


class AsBlue(torch.nn.Module):
    """Fires at each pixel without red and with full green; surer, the more blue it has."""

    def forward(self, images: torch.Tensor) -> tuple[list, list]:
        grids = [(images.shape[2] // stride, images.shape[3] // stride) for stride in STRIDES]
        logits, distances = ([torch.full((1, n, *grid), value) for grid in grids] for n, value in ((1, -9.0), (4, 0.0)))
        for y, x in ((images[0, 0] == 0) & (images[0, 1] == 1)).nonzero().tolist():
            row, column = y // STRIDES[0], x // STRIDES[0]
            logits[0][0, 0, row, column] = 4 * images[0, 2, y, x]
            distances[0][0, 2:, row, column] = 2 * torch.tensor([x + 0.5, y + 0.5]) - 2 * STRIDES[0] * torch.tensor(
                [column, row]
            )
        return logits, distances


def test_a_figure_beyond_a_tiles_core_hides_its_neighbour_there(make_slide: Callable, make_detector: Callable) -> None:
    pixels = np.full((200, 900, 3), 180, np.uint8)
    for x, blue in ((500, 60), (522, 120), (544, 180)):  # 5.5 µm apart: the last one hides the second, not the first
        pixels[100, x] = (0, 255, blue)
    detector = make_detector(AsBlue())
    for left in range(0, 128, 4):
        found = detector.detect(make_slide(pixels[:, left : left + 700]))
        assert sort(found + np.array([left, 0, 0])) == [(500.5, 100.5), (544.5, 100.5)], left


class Centroid(torch.nn.Module):
    """Fires at the centre of all dark pixels of a tile."""

    def forward(self, images: torch.Tensor) -> tuple[list, list]:
        rows, columns = (images[0, 0] < 0.5).nonzero().T
        grids = [(images.shape[2] // stride, images.shape[3] // stride) for stride in STRIDES]
        logits, distances = ([torch.full((1, n, *grid), value) for grid in grids] for n, value in ((1, -9.0), (4, 0.0)))
        logits[0][0, 0, 0, 0] = 2
        distances[0][0, 2:, 0, 0] = 2 * (torch.stack([columns, rows]).float().mean(dim=1) + 0.5)
        return logits, distances


@pytest.mark.parametrize("mpp", [0.25, 0.2275, 0.31])
def test_places_are_those_of_level_0(make_slide: Callable, make_detector: Callable, mpp: float) -> None:
    pixels = np.full((150, 310, 3), 180, np.uint8)
    pixels[100:140, 200:260] = 30
    slide = make_slide(pixels, mpp)
    assert make_detector(Centroid(), mpp=0.5).detect(slide)[0, :2] == pytest.approx([230, 120], abs=0.5)


def test_members_vote(tissue: np.ndarray, make_slide: Callable, make_detector: Callable, seer: Callable) -> None:
    sure, doubtful = seer(), seer(logit=0.0, shift_px=4)
    points = make_detector(sure, doubtful).detect(make_slide(tissue))
    assert points[:, 2] == pytest.approx((SURE + 0.5) / 2)
    assert sort(points - (4 * 0.5 / (SURE + 0.5), 0, 0)) == CENTRES
    blind = seer(logit=-12.0)
    assert make_detector(sure, blind).detect(make_slide(tissue))[:, 2] == pytest.approx(SURE / 2)
    assert len(make_detector(sure, blind).detect(make_slide(tissue), floor=0.5)) == 0


def test_orientations_average_out_what_a_network_does_to_one_side(
    tissue: np.ndarray, make_slide: Callable, make_detector: Callable, seer: Callable
) -> None:
    slide = make_slide(tissue[:600])
    leaning = seer(shift_px=3)
    assert sort(make_detector(leaning).detect(slide) - (3, 0, 0)) == CENTRES
    assert sort(make_detector(leaning, tta=True).detect(slide)) == CENTRES


def test_blank_glass_costs_nothing_and_an_empty_list_is_a_result(
    make_slide: Callable, make_detector: Callable, seer: Callable
) -> None:
    network = seer()
    points = make_detector(network).detect(make_slide(np.full((600, 600, 3), 243, np.uint8)))
    assert points.shape == (0, 3)
    assert network.n_seen == 0
    assert make_detector(network).detect(make_slide(np.full((9, 5, 3), 100, np.uint8))).shape == (0, 3)
    assert network.n_seen == 1


def test_a_strip_200_000_px_wide_works(
    tmp_path: Path, draw_figure: Callable, make_detector: Callable, seer: Callable
) -> None:
    pixels = np.full((70, 200_000, 3), 243, np.uint8)
    draw_figure(pixels[:, 150_000:150_060], 30, 30)
    tifffile.imwrite(tmp_path / "wide.tif", pixels, photometric="rgb", rowsperstrip=16)
    points = make_detector(seer()).detect(open_slide(tmp_path / "wide.tif", 0.25))
    assert points[:, :2].tolist() == [[150_030.5, 30.5]]


def test_a_broken_output_is_an_error(make_slide: Callable, make_detector: Callable, seer: Callable) -> None:

    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[list, list]:
            logits, distances = seer()(images)
            return [each * float("nan") for each in logits], distances

    with pytest.raises(DeviceError, match="outputs are not finite"):
        make_detector(Broken()).detect(make_slide(np.full((100, 100, 3), 180, np.uint8)))


def test_a_bundle_detects_the_same_twice(detector_bundle: Path, tissue: np.ndarray, make_slide: Callable) -> None:
    detector = Detector.load(detector_bundle, device="cpu")
    first, second = (detector.detect(make_slide(tissue[200:400, 200:420]), floor=0.001) for _ in range(2))
    assert len(first) and np.array_equal(first, second)
    assert (np.diff(first[:, 2]) <= 0).all()
    assert ((first[:, :2] >= 0) & (first[:, :2] <= (220, 200))).all()


def test_a_bundle_of_another_task_is_refused(tiny_bundle: Path, detector_bundle: Path) -> None:
    with pytest.raises(WeightsError, match="'tiny' does not detect figures: got task classify"):
        Detector.load(tiny_bundle, device="cpu")
    good = read_bundle(detector_bundle)
    check_task(good)
    for broken in (
        *(replace(good, input=replace(good.input, size_px=size_px)) for size_px in (192, 250)),
        replace(good, base=Base("0", "MIT"), members=(replace(good.members[0], kind="adapter"),)),
    ):
        with pytest.raises(WeightsError, match="does not detect figures"):
            check_task(broken)


def test_a_damaged_part_does_not_spoil_the_density_of_the_rest(
    tissue: np.ndarray, make_detector: Callable, seer: Callable, tmp_path: Path
) -> None:
    """Every tile's pixels depend on windows all over the image; only the tile under the damage is refused."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, tissue, photometric="rgb", tile=(64, 64), compression="zlib", resolution=(40000, 40000),
                     resolutionunit=3)  # fmt: skip
    detector = make_detector(seer())
    spec = replace(detector.bundle.input, density_mean=(0.3, 0.4, 0.3), density_std=(0.1, 0.1, 0.1))
    detector = Detector(replace(detector.bundle, input=spec), detector.members, detector.device, "fp32")
    first, *_, last = detector.plan(open_slide(path))
    whole = detector.read(open_slide(path), first)
    overwrite_block(path, -1)
    slide = open_slide(path)
    assert np.abs(detector.read(slide, first).astype(int) - whole).max() <= 3
    with pytest.raises(InputError, match="cannot be read"):
        detector.read(slide, last)


def test_a_mask_keeps_ink_out_of_the_density_at_any_scale(
    make_slide: Callable, make_detector: Callable, seer: Callable
) -> None:
    random = np.random.default_rng(0)
    pixels = random.normal((190, 110, 160), 12, (600, 900, 3)).clip(1, 215).astype(np.uint8)
    spec = {"density_mean": (0.3, 0.4, 0.3), "density_std": (0.1, 0.1, 0.1)}
    base = make_detector(seer(), mpp=0.5)
    base = replace(base.bundle, input=replace(base.bundle.input, **spec)), base.members, base.device, "fp32"
    clean = Detector(*base)
    clean_slide = make_slide(pixels, 0.25)
    mask = np.zeros((19, 29), bool)  # of 8 µm
    mask[:, :12] = True
    want = clean.measure(clean_slide, mask, 8.0)
    inked = np.array(pixels)
    inked[:, 470:] = (20, 30, 150)
    inked_slide = make_slide(inked, 0.25)
    found = clean.measure(inked_slide, mask, 8.0)
    assert want is not None and found is not None and want.n_windows == found.n_windows == mask.sum()
    for one, other in zip(want.density, found.density, strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    first = clean.plan(inked_slide)[0]
    assert (clean.read(inked_slide, first)[:, :200] == clean.read(clean_slide, first)[:, :200]).all()
    fresh = Detector(*base)  # without a mask, ink counts as before
    whole = fresh.read(make_slide(inked, 0.25), first)[:, :200].astype(int)
    assert np.abs(whole - clean.read(inked_slide, first)[:, :200]).mean() > 10
    assert make_detector(seer()).measure(clean_slide, mask, 8.0) is None
