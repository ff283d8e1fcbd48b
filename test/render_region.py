"""Render the test case of Track 1: a region of H&E-like tissue with mitotic figures among other nuclei.

The cells are those of render_stack.py, drawn at many places of one large sheet of tissue. As there, all is drawn in
optical density. The region is a picture, not ground truth: no pathologist has read it.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import render_stack as cells
import tifffile
from numpy.random import Generator
from PIL import Image
from render_stack import FINE, MPP, Field, Page, Pixels, clump, lay, placed, plate, poles, soft
from scipy.spatial import cKDTree

OUT = Path(__file__).parent / "input" / "region0"
SLUG, FOLDER = "histopathology-region-of-interest-cropout", "images/histopathology-roi-cropout"
SEED = 1
WIDTH_PX, HEIGHT_PX = 1200, 1000
MARGIN_PX = cells.GRID // FINE // 2 + 20  # cells up to 20 px outside are drawn whole, and cut
TILE_PX, QUALITY = 256, 78  # of the JPEG in the file
SHAPE = ((HEIGHT_PX + 2 * MARGIN_PX) * FINE, (WIDTH_PX + 2 * MARGIN_PX) * FINE)
Y, X = np.meshgrid(*((np.arange(n) + 0.5) / FINE - MARGIN_PX for n in SHAPE), indexing="ij")  # pixels of the region
KY, KX = np.meshgrid(np.fft.fftfreq(SHAPE[0], 1 / FINE), np.fft.rfftfreq(SHAPE[1], 1 / FINE), indexing="ij")
STAIN = "magenta"
STROMA, LUMEN = 0.2, 0.05  # shares of the region

FIGURES = (  # what is drawn, and where: x and y in pixels
    (Page("metaphase, side view", lambda r: plate(r, 31, 9), STAIN, angle=0.5), 214, 171),
    (Page("prometaphase", lambda r: clump(r, 14, 34, (4, 9)), STAIN, angle=1.0, cleft=0.2), 655, 130),
    (Page("anaphase", lambda r: poles(r, 20, 27, 26), STAIN, (34, 26), angle=0.9), 1043, 262),
    (Page("metaphase from a pole", lambda r: clump(r, 12, 38, (2, 7), hollow=0.7), STAIN, cleft=0), 402, 415),
    (Page("telophase", lambda r: poles(r, 34, 23, 22, 6), STAIN, (37, 22), angle=-0.4, cleft=0.2), 820, 478),
    (Page("metaphase, side view", lambda r: plate(r, 27, 7), STAIN, (25, 23), angle=-0.7, cleft=0.8), 133, 640),
    (Page("metaphase, tilted", lambda r: clump(r, 12, 36, (2, 8), 0.75) * (1, 0.6, 1, 1, 1), STAIN), 573, 741),
    (Page("late anaphase", lambda r: poles(r, 25, 27, 26), STAIN, (34, 25), angle=1.4), 1012, 803),
    (Page("tripolar", lambda r: np.vstack([placed(plate(r, 18), 0, 10, t) for t in (0.2, 2.1, 4.4)]), STAIN, (35, 33)),
     298, 868),
)  # fmt: skip
LOOK_ALIKES = ((500, 262), (905, 104), (742, 885), (96, 398))  # x and y of shrunken, even nuclei: apoptosis


def noise(rng: Generator, scale_px: float, slope: float = 1.2, stretch: float = 1.0, angle: float = 0.0) -> Field:
    """As `cells.noise`, for the whole sheet."""
    along, across = KX * np.cos(angle) + KY * np.sin(angle), KY * np.cos(angle) - KX * np.sin(angle)
    gain = (1 + (2 * np.pi * scale_px) ** 2 * ((along * stretch) ** 2 + across**2)) ** -slope
    field: Field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=SHAPE)) * gain, SHAPE)
    return np.asarray((field - field.mean()) / field.std())


def scatter(rng: Generator, is_stroma: Field) -> list[Field]:
    """Centres of the other cells: closer together in the tumour than in the stroma, none in a figure's cell."""
    taken = [np.array(place) for *_, x, y in FIGURES for place in [(x, y)]] + [np.array(each) for each in LOOK_ALIKES]
    reaches, centres = [44.0] * len(FIGURES) + [30.0] * len(LOOK_ALIKES), []
    for spot in rng.uniform((-20, -20), (WIDTH_PX + 20, HEIGHT_PX + 20), (30_000, 2)):
        row, column = ((spot[::-1] + MARGIN_PX) * FINE).astype(int)
        reach = 41.0 if is_stroma[row, column] > 0.5 else 29.0
        if (np.hypot(*(np.array(taken) - spot).T) > np.maximum(reaches, reach)).all():
            taken.append(spot)
            reaches.append(reach)
            centres.append(spot)
    return centres


def background(rng: Generator) -> tuple[Field, Field, Field, list[Field]]:
    """Cytoplasm cell by cell, bands of collagen, gaps; the tissue, where it is collagen, where empty, and the cells."""
    bands = noise(rng, 55, 1.6) + 0.25 * noise(rng, 12, 2)
    collagen = soft(np.quantile(bands, 1 - STROMA) - bands, 0.06)
    centres = scatter(rng, collagen)
    spots = np.array([*centres, *([x, y] for *_, x, y in FIGURES), *LOOK_ALIKES])
    places = np.stack([X + 4 * noise(rng, 9, 2), Y + 4 * noise(rng, 9, 2)], axis=-1)
    ranked, owner = cKDTree(spots).query(places, k=2)
    membrane = (ranked[..., 1] - ranked[..., 0]) / 2  # distance to the nearest one in pixels
    threads = soft(np.abs(noise(rng, 4.5, 1.3, 1.6, 0.6)) - 0.3, 0.1)
    grain = 0.7 * noise(rng, 1.0, 1.0) + 0.7 * noise(rng, 5) + 0.8 * threads
    edge = soft(membrane - 0.7, 0.7) * soft(-noise(rng, 10) - 0.5, 0.5)
    pale = 1 - 0.5 * np.clip(noise(rng, 4) - 0.6, 0, 1.2)  # vacuoles and wisps
    h = (rng.normal(0.12, 0.03, len(spots))[owner[..., 0]] + 0.035 * grain + 0.06 * edge) * pale
    e = (rng.normal(0.25, 0.04, len(spots))[owner[..., 0]] + 0.05 * grain + 0.12 * edge) * pale
    tissue = np.stack([h, e])
    fibres = noise(rng, 5, 1.1, 4, 0.8) + 0.6 * noise(rng, 1.5, 1.0, 6, 1.0)
    lay(tissue, collagen, np.clip(0.07 + 0.04 * fibres, 0, 0.3), np.clip(0.25 + 0.12 * fibres, 0.015, 0.6))
    far = np.clip(cKDTree(spots[len(centres) :]).query(np.stack([X, Y], axis=-1))[0] - 45, -40, 20)
    hollow = noise(rng, 30, 1.6) + 0.03 * far
    lumen = soft(np.quantile(hollow, 1 - LUMEN) - hollow, 0.1)
    torn = soft(membrane - 1.6 * noise(rng, 11, 1.3), 0.6) * (far > 0)  # shrinkage tears cells apart
    empty = np.maximum(lumen, torn) * (1 - 0.4 * np.clip(noise(rng, 3) - 0.3, 0, 2))
    lay(tissue, empty, 0, 0.01)
    return tissue, collagen, empty, centres


def window(tissue: Field, x: float, y: float) -> Field:
    """The part of the sheet on which `cells` draws around a place."""
    column, row = (int((each + MARGIN_PX) * FINE) for each in (x, y))
    half = cells.GRID // 2
    return tissue[:, row - half : row + half, column - half : column + half]


def apoptosis(rng: Generator, tissue: Field) -> None:
    """Lay a look-alike: one or two round, even, dark balls in a shrunken cell with much eosin."""
    distance = cells.ellipse(rng, np.zeros(2), (15, 13), 0, 1.5)
    lay(tissue, soft(distance - 4, 0.8) * (1 - soft(distance, 0.8)), 0, 0.01)  # the halo
    lay(tissue, soft(distance, 0.8), 0.12, 0.5 + 0.04 * cells.noise(rng, 3))
    for x, y, radius in ((-2, 0, 6.5), (7, 4, 3.0)):
        ball = np.hypot(cells.X - x, cells.Y - y) + 0.4 * cells.noise(rng, 2) - radius
        lay(tissue, soft(ball, 0.5), 1.0, 0.2)


def expose(rng: Generator, tissue: Field) -> Pixels:
    """As `cells.expose`, for the whole sheet."""
    density = np.moveaxis(tissue, 0, -1) @ np.array(cells.STAINS[STAIN])  # (H, W, 3)
    blur = [np.exp(-2 * (np.pi * sigma_px) ** 2 * (KX**2 + KY**2)) for sigma_px in (0.65, 1.3)]
    transfer = (blur[0] * (1.45 - 0.45 * blur[1]))[..., None]  # the lens blurs, the scanner sharpens
    light = np.fft.irfft2(
        np.fft.rfft2(10.0 ** -np.clip(density, 0.01, None), axes=(0, 1)) * transfer, SHAPE, axes=(0, 1)
    )
    pixels: Field = light.reshape(SHAPE[0] // FINE, FINE, SHAPE[1] // FINE, FINE, 3).mean(axis=(1, 3))
    pixels = pixels[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    pixels += rng.normal(0, 0.006, pixels.shape)
    return np.rint(np.clip(pixels, 0, 1) * 252 + 2).astype(np.uint8)


def render_region(seed: int = SEED) -> Pixels:
    """The region: uint8 (HEIGHT_PX, WIDTH_PX, 3)."""
    rng = np.random.default_rng(seed)
    tissue, collagen, empty, centres = background(rng)
    for x, y in centres:
        row, column = int((y + MARGIN_PX) * FINE), int((x + MARGIN_PX) * FINE)
        if empty[row, column] < 0.3:
            cells.nucleus(rng, window(tissue, x, y), np.zeros(2), thin=bool(collagen[row, column] > 0.5))
    for x, y in LOOK_ALIKES:
        apoptosis(rng, window(tissue, x, y))
    for page, x, y in FIGURES:
        cells.dividing_cell(rng, page, window(tissue, x, y))
    return expose(rng, tissue)


def encode_tiles(region: Pixels) -> Iterator[bytes]:
    """The tiles as JPEG, row by row; those at the border repeat its pixels."""
    height, width = region.shape[:2]
    padded = np.pad(region, ((0, -height % TILE_PX), (0, -width % TILE_PX), (0, 0)), mode="edge")
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            content = io.BytesIO()
            tile = Image.fromarray(padded[y : y + TILE_PX, x : x + TILE_PX])
            tile.save(content, "JPEG", quality=QUALITY, subsampling="4:2:0", optimize=True)
            yield content.getvalue()


def write_case(region: Pixels, out: Path) -> Path:
    """Write ``inputs.json`` and the TIFF as the platform mounts them; returns the TIFF's path."""
    path = out / FOLDER / "9d1c7e1a-3b52-4d0f-9a0e-6c2b8f4e7a11.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    socket = {"slug": SLUG, "kind": "Image", "super_kind": "Image", "relative_path": FOLDER}
    case = [{"file": None, "image": {"name": "rendered_region.tiff"}, "value": None, "socket": socket}]
    (out / "inputs.json").write_text(json.dumps(case, indent=4) + "\n", encoding="utf-8")
    with tifffile.TiffWriter(path) as file:
        file.write(
            encode_tiles(region), shape=region.shape, dtype=region.dtype, tile=(TILE_PX, TILE_PX), photometric="ycbcr",
            compression="jpeg", subsampling=(2, 2), resolution=(1e4 / MPP, 1e4 / MPP), resolutionunit="CENTIMETER",
            metadata=None, software=False,
        )  # fmt: skip
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render the test case of Track 1.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    print(write_case(render_region(options.seed), options.out))
