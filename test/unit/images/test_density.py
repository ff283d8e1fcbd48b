from collections.abc import Callable

import numpy as np
import pytest

from mitoscope.images.density import (
    DENSITY,
    PER_AXIS,
    SIDE_PX,
    apply_table,
    make_table,
    measure_density,
    read_windows,
    spread,
)

MEAN, STD = (0.29, 0.90, 0.41), (0.10, 0.25, 0.12)


@pytest.fixture
def tissue() -> np.ndarray:
    """uint8 (700, 900, 3): three colours of noise, with glass on the left."""
    random = np.random.default_rng(0)
    pixels = random.normal((190, 110, 160), (18, 30, 20), (700, 900, 3)).clip(1, 219).astype(np.uint8)
    pixels[:, :200] = 245
    return pixels


def reader(pixels: np.ndarray) -> Callable[[int, int, int, int], np.ndarray]:
    return lambda left, top, width, height: pixels[top : top + height, left : left + width]


def measure(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    own = measure_density(read_windows(reader(pixels), pixels.shape[1], pixels.shape[0]))
    assert own is not None
    return own


def test_it_is_the_optical_density_of_the_tissue_alone(tissue: np.ndarray) -> None:
    only = DENSITY[tissue[:, 200:].reshape(-1, 3)]
    mean, std = measure_density([tissue]) or pytest.fail("nothing measured")
    assert mean == pytest.approx(only.mean(axis=0))
    assert std == pytest.approx(only.std(axis=0))


def test_the_tissue_has_the_density_of_the_target_afterwards(tissue: np.ndarray) -> None:
    seen = apply_table(tissue, make_table(measure(tissue), MEAN, STD))
    density = DENSITY[seen[:, 200:].reshape(-1, 3)]
    assert density.mean(axis=0) == pytest.approx(MEAN, abs=0.02)
    assert density.std(axis=0) == pytest.approx(STD, abs=0.02)


def test_the_spread_may_be_kept(tissue: np.ndarray) -> None:
    seen = apply_table(tissue, make_table(measure(tissue), MEAN, ()))
    density, before = DENSITY[seen[:, 200:].reshape(-1, 3)], DENSITY[tissue[:, 200:].reshape(-1, 3)]
    assert density.mean(axis=0) == pytest.approx(MEAN, abs=0.02)
    assert density.std(axis=0) == pytest.approx(before.std(axis=0), abs=0.02)


def test_two_scans_of_one_tissue_become_nearly_the_same(tissue: np.ndarray) -> None:
    darker = (256 * np.exp(-1.3 * DENSITY[tissue]) - 1).clip(0, 255).round().astype(np.uint8)
    first, second = (
        apply_table(each, make_table(measure(each), MEAN, STD))[:, 200:].astype(int) for each in (tissue, darker)
    )
    before = np.abs(tissue.astype(int) - darker)[:, 200:].mean()
    assert before > 10
    assert np.abs(first - second).mean() < 2


def test_glass_alone_is_left_as_it_is() -> None:
    glass = np.full((300, 300, 3), 240, np.uint8)
    own = measure_density(read_windows(reader(glass), 300, 300))
    assert own is None
    assert (apply_table(glass, make_table(own, MEAN, STD)) == glass).all()


def test_densities_are_changed_by_a_factor_of_two_at_most() -> None:
    table = make_table((np.array([0.3] * 3), np.array([0.001] * 3)), MEAN, (0.2,) * 3)
    density = DENSITY[table[0, 100:200]]
    assert np.polyfit(DENSITY[100:200], density, 1)[0] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("width", "height"), [(900, 700), (70, 2000), (20, 20)])
def test_the_windows_reach_from_border_to_border(width: int, height: int) -> None:
    boxes: list[tuple[int, int, int, int]] = []

    def read(*box: int) -> np.ndarray:
        boxes.append(box)
        return np.zeros((box[3], box[2], 3), np.uint8)

    assert len(list(read_windows(read, width, height))) == PER_AXIS**2
    left, top, w, h = np.array(boxes).T
    assert (w.max(), h.max()) == (min(SIDE_PX, width), min(SIDE_PX, height))
    assert left.min() >= 0 <= top.min()
    assert (left + w).max() <= width
    assert (top + h).max() <= height
    assert left.min() < width / PER_AXIS
    assert (left + w).max() > width - width / PER_AXIS


def test_places_are_spread_over_the_mask_alone_whatever_its_shape() -> None:
    mask = np.zeros((400, 900), bool)
    mask[10:14, :600] = True  # two sections, one six times as large as the other
    mask[300:340, 800:890] = mask[350:390, 100:105] = True
    places = spread(mask)
    assert places.shape == (PER_AXIS**2, 2)
    columns, rows = np.floor(places).astype(int).T
    assert mask[rows, columns].all()
    assert len(set(zip(rows, columns, strict=True))) == len(places)
    strip, block, column = (rows < 20).mean(), (columns >= 800).mean(), (rows >= 350).mean()
    assert (strip, block, column) == pytest.approx(np.array([2400, 3600, 200]) / mask.sum(), abs=0.01)
    assert np.histogram(columns[rows < 20], 4, (0, 600))[0].std() < 2
    assert (places == spread(mask)).all()


def test_a_mask_of_few_pixels_gives_all_of_them() -> None:
    mask = np.zeros((30, 20), bool)
    mask[7:10, 3:5] = True
    assert sorted(map(tuple, spread(mask).tolist())) == [(x + 0.5, y + 0.5) for x in (3, 4) for y in (7, 8, 9)]
    assert spread(np.zeros((3, 3), bool)).shape == (0, 2)


def test_windows_lie_around_their_centres_and_within_the_image(tissue: np.ndarray) -> None:
    height, width = tissue.shape[:2]
    boxes = []
    centres = np.array([(450.0, 350.0), (3.0, 699.0)])
    list(read_windows(lambda *box: boxes.append(box) or np.zeros((1, 1, 3), np.uint8), width, height, centres))
    assert boxes == [(418, 318, 64, 64), (0, 636, 64, 64)]
