"""Render the test case: sixteen H&E-like crops of dividing cells, mounted as Grand Challenge mounts them.

A fresh clone needs an input that is free to publish and looks like tissue. All is drawn in optical density, where
haematoxylin and eosin add, and turned into light at the end. The pages are pictures, not ground truth: no
pathologist has read them, and a classifier may disagree with the table of pages.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import vstack
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float64]  # (GRID, GRID); a tissue (2, GRID, GRID): haematoxylin, eosin; a point (2,): x, y in pixels
Arms = NDArray[np.float64]  # (n, 5) chromosome arms: x, y, direction, length, width, in pixels and radians
Pixels = NDArray[np.uint8]  # (..., 128, 128, 3) RGB

OUT = Path(__file__).parent / "input" / "interf0"
SLUG = "stacked-histopathology-roi-cropouts"
SEED = 2025
CROP_PX, MARGIN_PX = 128, 8  # the margin round the crop is drawn too, for the lens to blur in
FINE, MPP = 2, 0.25  # samples drawn per pixel and axis; µm per pixel
GRID = (CROP_PX + 2 * MARGIN_PX) * FINE
Y, X = np.meshgrid(*[(np.arange(GRID) + 0.5 - GRID / 2) / FINE] * 2, indexing="ij")  # pixels from the centre
KY, KX = np.meshgrid(np.fft.fftfreq(GRID, 1 / FINE), np.fft.rfftfreq(GRID, 1 / FINE), indexing="ij")  # cycles per pixel
STAINS = {  # absorbance (R, G, B) of haematoxylin and of eosin at unit amount, as laboratories and scanners differ
    "magenta": ((0.68, 0.98, 0.42), (0.19, 0.98, 0.22)),
    "brick": ((0.68, 0.94, 0.52), (0.19, 0.84, 0.46)),
    "violet": ((0.74, 0.94, 0.44), (0.26, 0.86, 0.24)),
}


class Page(NamedTuple):
    """What one page shows: the figure, its cell and the tissue around it."""

    shows: str
    figure: Callable[[Generator], Arms]
    stain: str
    cell_px: tuple[float, float] = (31, 27)  # half axes of the dividing cell
    angle: float = 0.0  # radians, of the figure and its cell
    stroma: float = 0.0  # share of the crop that is fibrous stroma
    lumen: float = 0.07  # share of the crop that is empty glass
    cleft: float = 0.35  # how far a white shrinkage cleft reaches round the dividing cell, 0 to 1


PAGES = (
    # Normal: both daughters get the same chromosomes.
    Page("metaphase, side view", lambda r: plate(r, 31, 9), "magenta", angle=0.5),
    Page("metaphase from a pole", lambda r: clump(r, 12, 38, (2, 7), hollow=0.7), "brick", cleft=0),
    Page("prometaphase", lambda r: clump(r, 14, 34, (4, 9)), "violet", angle=1.0, cleft=0.2),
    Page("anaphase", lambda r: poles(r, 20, 27, 26), "magenta", (34, 26), angle=0.9, stroma=0.3),
    Page("metaphase, side view", lambda r: plate(r, 27, 7), "brick", (25, 23), angle=-0.7, stroma=0.35, cleft=0.8),
    Page("telophase", lambda r: poles(r, 34, 23, 22, 6), "violet", (37, 22), angle=-0.4, cleft=0.2),
    Page("metaphase, tilted", lambda r: clump(r, 12, 36, (2, 8), 0.75) * (1, 0.6, 1, 1, 1), "magenta", angle=0.3),
    Page("late anaphase", lambda r: poles(r, 25, 27, 26), "brick", (34, 25), angle=1.4, lumen=0.14),
    # Atypical: the chromosomes are shared out wrongly.
    Page("tripolar", lambda r: vstack([placed(plate(r, 18), 0, 10, t) for t in (0.2, 2.1, 4.4)]), "magenta", (35, 33)),
    Page("tetrapolar", lambda r: vstack([placed(plate(r, 16), 0, 11, t) for t in (0.4, 2, 3.6, 5)]), "brick", (35, 34)),
    Page("lagging", lambda r: vstack([poles(r, 31, 25, 24), clump(r, 6, 5, (1, 4))]), "violet", (36, 27), 0.2),
    Page("bridge", lambda r: vstack([poles(r, 30, 24, 25), placed(plate(r, 26, 2), 3, 0, 1.6)]), "brick", (35, 26)),
    Page("asymmetric bipolar", lambda r: poles(r, 24, 33, 14, 8), "magenta", (35, 27), angle=-0.9, lumen=0.1),
    Page("scattered chromosomes", lambda r: clump(r, 23, 44, (0.5, 4)), "violet", (35, 33), lumen=0.03, cleft=0.1),
    Page("strays", lambda r: vstack([plate(r, 33, 9), placed(clump(r, 5, 7, (1, 4)), 14, 5)]), "brick", (33, 31)),
    Page("three sets", lambda r: vstack([poles(r, 30, 25, 17), placed(plate(r, 17, 7), 21, 0, -1.6)]), "violet"),
)


def plate(rng: Generator, length: float, thickness: float = 8, bend: float = 0) -> Arms:
    """Chromosomes side by side along y, their arms across it; ``bend`` trails the ends towards +x."""
    n = int(length * 1.5)
    along = np.linspace(-0.5, 0.5, n) + rng.normal(0, 0.025, n)
    across = thickness * rng.normal(0, 0.18, n) + bend * (2 * along) ** 2
    direction = rng.normal(0, 0.5, n) + along * np.sign(bend) * 0.9
    arm = thickness * (1 - 1.1 * along**2) * rng.uniform(0.3, 1.1, n)
    return np.stack([across, along * length, direction, arm, rng.uniform(2, 4, n) * min(1, thickness / 7)], axis=1)


def clump(rng: Generator, radius: float, n: int, arm: tuple[float, float], hollow: float = 0.0) -> Arms:
    """Arms in any direction: prometaphase; a plate seen from a pole (hollow); stray chromosomes (few and short)."""
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False) + rng.normal(0, 0.1, n)
    reach = radius * np.sqrt(rng.uniform(hollow**2, 1, n))
    direction, length, width = rng.uniform(0, np.pi, n), rng.uniform(*arm, n), rng.uniform(1.6, 3.4, n)
    return np.stack([reach * np.cos(turn), reach * np.sin(turn), direction, length, width], axis=1)


def placed(arms: Arms, x: float, y: float, angle: float = 0.0) -> Arms:
    """The same arms, shifted and then turned about the centre."""
    c, s, dx, dy = np.cos(angle), np.sin(angle), arms[:, 0] + x, arms[:, 1] + y
    return np.column_stack([c * dx - s * dy, s * dx + c * dy, arms[:, 2] + angle, arms[:, 3:]])


def poles(rng: Generator, gap: float, left: float, right: float, thick: float = 7) -> Arms:
    """Two sets drawn apart along x, their ends trailing towards the middle: anaphase and telophase."""
    return vstack([placed(plate(rng, n, thick, -2.5 * s), s * gap / 2, 0) for s, n in ((-1, left), (1, right))])


def noise(rng: Generator, scale_px: float, slope: float = 1.2, stretch: float = 1.0, angle: float = 0.0) -> Field:
    """Multi-octave noise of mean 0 and deviation 1; ``stretch`` draws it out into fibres along ``angle``."""
    along, across = KX * np.cos(angle) + KY * np.sin(angle), KY * np.cos(angle) - KX * np.sin(angle)
    gain = (1 + (2 * np.pi * scale_px) ** 2 * ((along * stretch) ** 2 + across**2)) ** -slope
    field: Field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(GRID, GRID))) * gain)
    return np.asarray((field - field.mean()) / field.std())


def soft(distance: Field, width_px: float) -> Field:
    """1 well below 0, 0 well above it, and a smooth edge of the given width between."""
    return np.asarray(0.5 - 0.5 * np.tanh(distance / width_px))


def ellipse(rng: Generator, centre: Field, half: tuple[float, float], angle: float, rough: float) -> Field:
    """Distance to an uneven ellipse in pixels, negative inside."""
    dx, dy = X - centre[0] + rough * noise(rng, 7, 2), Y - centre[1] + rough * noise(rng, 7, 2)
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return np.asarray((np.hypot(u / half[0], v / half[1]) - 1) * min(half))


def arms_distance(rng: Generator, arms: Arms) -> Field:
    """Distance to the union of all chromosome arms in pixels, negative inside, its edge ragged and hairy."""
    dx, dy = X + 0.7 * noise(rng, 1.5), Y + 0.7 * noise(rng, 1.5)
    total = np.zeros_like(X)
    for x, y, direction, length, width in arms:
        c, s = np.cos(direction), np.sin(direction)
        past_end = np.maximum(np.abs((dx - x) * c + (dy - y) * s) - length / 2, 0)
        total += np.exp(np.minimum(width / 2 - np.hypot(past_end, (dy - y) * c - (dx - x) * s), 9) / 0.6)
    return -0.6 * np.log(total + 1e-9)  # a smooth minimum: neighbouring arms melt together


def lay(tissue: Field, where: Field, h: Field | float, e: Field | float) -> None:
    """Replace the stain amounts in place, in the measure of ``where`` (0 to 1)."""
    tissue += where * (np.stack(np.broadcast_arrays(h, e, where)[:2]) - tissue)


def background(rng: Generator, page: Page, centres: list[Field]) -> tuple[Field, Field, Field]:
    """Cytoplasm cell by cell, collagen and gaps; the tissue, where it is collagen, and where it is empty glass."""
    dx, dy = X + 4 * noise(rng, 9, 2), Y + 4 * noise(rng, 9, 2)
    reach = np.stack([np.hypot(dx - x, dy - y) for x, y in [*centres, np.zeros(2)]])  # (n_cells, GRID, GRID)
    owner, ranked = reach.argmin(axis=0), np.sort(reach, axis=0)
    membrane = (ranked[1] - ranked[0]) / 2  # distance to the nearest one in pixels
    threads = soft(np.abs(noise(rng, 4.5, 1.3, 1.6, rng.uniform(0, np.pi))) - 0.3, 0.1)
    grain = 0.7 * noise(rng, 1.0, 1.0) + 0.7 * noise(rng, 5) + 0.8 * threads
    edge = soft(membrane - 0.7, 0.7) * soft(-noise(rng, 10) - 0.5, 0.5)
    pale = 1 - 0.5 * np.clip(noise(rng, 4) - 0.6, 0, 1.2)  # vacuoles and wisps
    h = (rng.normal(0.12, 0.03, len(reach))[owner] + 0.035 * grain + 0.06 * edge) * pale
    e = (rng.normal(0.25, 0.04, len(reach))[owner] + 0.05 * grain + 0.12 * edge) * pale
    tissue = np.stack([h, e])
    angle = rng.uniform(0, 2 * np.pi)
    side = X * np.cos(angle) + Y * np.sin(angle) + 6 * noise(rng, 14, 2)
    collagen = soft(np.quantile(side, 1 - page.stroma) - side, 1.5) * (page.stroma > 0)
    bundle = noise(rng, 5, 1.1, 4, angle + np.pi / 2) + 0.6 * noise(rng, 1.5, 1.0, 6, angle + np.pi / 2 + 0.2)
    lay(tissue, collagen, np.clip(0.07 + 0.04 * bundle, 0, 0.3), np.clip(0.25 + 0.12 * bundle, 0.015, 0.6))
    outside = np.hypot(X, Y) - max(page.cell_px) - 5
    hollow = noise(rng, 9, 1.4) + 0.03 * np.clip(outside, -40, 20)
    lumen = soft(np.quantile(hollow, 1 - page.lumen) - hollow, 0.1)
    torn = soft(membrane - 1.6 * noise(rng, 11, 1.3), 0.6)  # shrinkage tears cells apart along their membranes
    empty = np.maximum(lumen, torn) * soft(-outside, 1.5) * (1 - 0.4 * np.clip(noise(rng, 3) - 0.3, 0, 2))
    lay(tissue, empty, 0, 0.01)
    return tissue, collagen, empty


def nucleus(rng: Generator, tissue: Field, centre: Field, thin: bool) -> None:
    """Lay an interphase nucleus: membrane, chromatin clumps and nucleoli; thin and dark among fibres."""
    size = rng.uniform(10, 16.5)
    half = (rng.uniform(11, 15), rng.uniform(3.5, 5)) if thin else (size, size * rng.uniform(0.65, 0.95))
    distance = ellipse(rng, centre, half, rng.uniform(0, np.pi), 1.5)
    vesicular = 0.0 if thin else rng.uniform(0, 1)  # 0: dense and even, 1: a dark rim round a pale middle
    clumps = np.clip(noise(rng, 1.5, 1.5) - 0.3, 0, 2)
    rim = soft(np.abs(distance + 1.1) - 0.8, 0.5) * (1 + 0.4 * noise(rng, 3))
    body = 0.44 - 0.3 * vesicular + 0.09 * noise(rng, 3) + 0.24 * clumps + (0.1 + 0.24 * vesicular) * rim
    for _ in range(0 if thin else rng.integers(0, 3)):
        x, y = rng.normal(centre, 0.28 * size)
        body += 0.4 * soft(np.hypot(X - x, Y - y) + 0.7 * noise(rng, 2) - rng.uniform(1.4, 2.8), 0.6)
    lay(tissue, soft(distance, rng.uniform(0.6, 1.5)), np.clip(body, 0.07, 1.0), 0.16 + 0.05 * noise(rng, 2))


def dividing_cell(rng: Generator, page: Page, tissue: Field) -> None:
    """Lay the cell in the middle: rounded, pale about the spindle, torn off its neighbours, with its chromosomes."""
    distance = ellipse(rng, np.zeros(2), page.cell_px, page.angle + rng.normal(0, 0.15), 2.6)
    inside = soft(distance, 1.1)
    facing = np.cos(np.arctan2(Y, X) - rng.uniform(0, 2 * np.pi)) + 0.25 * noise(rng, 8)
    gap = np.clip(7 * (facing - np.cos(np.pi * page.cleft)), 0, 4) * (1 + 0.25 * noise(rng, 6))
    lay(tissue, (1 - inside) * soft(distance - gap, 0.7) * np.clip(gap / 1.5, 0, 1), 0, 0.01)
    grain = 0.7 * noise(rng, 1.0, 1.0) + 0.5 * noise(rng, 5) + 0.5 * soft(np.abs(noise(rng, 4, 1.3)) - 0.2, 0.1)
    clear = np.exp(-((np.hypot(X, Y) / 22) ** 2)) * rng.uniform(0.3, 1)  # the spindle keeps organelles away
    rim = soft(np.abs(distance + 0.6) - 0.7, 0.5) * rng.uniform(0.2, 1)
    lay(tissue, inside, 0.12 + 0.04 * grain - 0.03 * clear + 0.05 * rim, 0.23 + 0.06 * grain - 0.08 * clear + 0.1 * rim)
    depth = arms_distance(rng, placed(page.figure(rng), 0, 0, page.angle))
    lay(tissue, soft(depth, 0.85), 0.84 + 0.36 * np.clip(-depth / 4, 0, 1) + 0.13 * noise(rng, 1.8), 0.18)


def expose(rng: Generator, stain: str, tissue: Field) -> Pixels:
    """Stain amounts → RGB as a scanner delivers it."""
    vectors = np.array(STAINS[stain]) * rng.normal(1, 0.05, (2, 3))
    density = np.moveaxis(tissue, 0, -1) * rng.normal(1, 0.07, 2) @ vectors  # (GRID, GRID, 3)
    blur = [np.exp(-2 * (np.pi * sigma_px) ** 2 * (KX**2 + KY**2)) for sigma_px in (rng.uniform(0.5, 0.75), 1.3)]
    transfer = (blur[0] * (1.45 - 0.45 * blur[1]))[..., None]  # the lens blurs, the scanner sharpens
    light = np.fft.irfft2(np.fft.rfft2(10.0 ** -np.clip(density, 0.01, None), axes=(0, 1)) * transfer, axes=(0, 1))
    pixels: Field = light.reshape(GRID // FINE, FINE, GRID // FINE, FINE, 3).mean(axis=(1, 3))
    pixels = pixels[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    pixels += rng.normal(0, 0.008, pixels.shape) + rng.normal(0, 0.006, (CROP_PX, CROP_PX, 1))
    return np.rint(np.clip(pixels, 0, 1) * 252 + 2).astype(np.uint8)


def render_page(rng: Generator, page: Page) -> Pixels:
    """One crop: cells crowded about the dividing one, which lies in the centre."""
    centres: list[Field] = []
    for spot in rng.uniform(-76, 76, (900, 2)):
        if np.hypot(*spot) > max(page.cell_px) + 11 and all(np.hypot(*(spot - c)) > 29 for c in centres):
            centres.append(spot)
    tissue, collagen, empty = background(rng, page, centres)
    for centre in centres:
        column, row = np.clip((centre * FINE + GRID / 2).astype(int), 0, GRID - 1)
        if empty[row, column] < 0.3:
            nucleus(rng, tissue, centre, thin=bool(collagen[row, column] > 0.5))
    dividing_cell(rng, page, tissue)
    return expose(rng, page.stain, tissue)


def render_stack(seed: int = SEED) -> Pixels:
    """All pages of the table, uint8 (16, 128, 128, 3); a page depends on the seed and its own number alone."""
    return np.stack([render_page(np.random.default_rng([seed, k]), page) for k, page in enumerate(PAGES)])


def write_case(stack: Pixels, out: Path) -> Path:
    """Write ``inputs.json`` and the TIFF as the platform mounts them; returns the TIFF's path."""
    path = out / "images" / SLUG / "5f0c8a52-9d0e-4b7e-8a41-3f6f2f5d1c16.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    socket = {"slug": SLUG, "kind": "Image", "super_kind": "Image", "relative_path": f"images/{SLUG}"}
    case = [{"file": None, "image": {"name": "rendered_stack.tiff"}, "value": None, "interface": socket}]
    (out / "inputs.json").write_text(json.dumps(case, indent=4) + "\n", encoding="utf-8")
    first, *rest = [Image.fromarray(page) for page in stack]
    first.save(
        path, save_all=True, append_images=rest, resolution=1e4 / MPP, resolution_unit="cm",
        compression="tiff_adobe_deflate", tiffinfo={317: 2},  # 317: each pixel as its difference from the last
    )  # fmt: skip
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render the sixteen-page test case.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    print(write_case(render_stack(options.seed), options.out))
