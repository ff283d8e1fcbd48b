"""Every tile with tissue → the detector's candidates; a few tiles at a time, see `mitoscope.slide.workers`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mitoscope.detect.detector import FORWARD_TILES, Detector
from mitoscope.detect.tiles import Tile
from mitoscope.errors import InputError
from mitoscope.images.slide import Mpp, Slide
from mitoscope.progress import progress
from mitoscope.slide.journal import Journal
from mitoscope.slide.tissue import Tissue
from mitoscope.slide.workers import Workers, cut


@dataclass(frozen=True)
class Fault:
    """A tile that could not be read, so that its figures are missing.

    Attributes:
        x_px: Left side of the tile's core, in pixels of level 0.
        y_px: Upper side.
        width_px: Width.
        height_px: Height.
        tissue_mm2: Tissue in it.
        reason: Why.
    """

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    tissue_mm2: float
    reason: str

    def measure_box_um(self, mpp: Mpp) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in µm."""
        left, top = self.x_px * mpp.x, self.y_px * mpp.y
        return left, top, left + self.width_px * mpp.x, top + self.height_px * mpp.y


@dataclass(frozen=True)
class Scan:
    """What was found.

    Attributes:
        candidates: float64 (N, 4), see `Detector.merge`.
        faults: The tiles that could not be read.
        n_tiles: With tissue.
        network_s: Seconds of this process in which a network computed.
        read_s: Seconds of its threads together in which pixels were read.
        new_mm2: Tissue of the tiles that this process computed.
    """

    candidates: np.ndarray
    faults: list[Fault]
    n_tiles: int
    network_s: float
    read_s: float
    new_mm2: float


def scan(detector: Detector, slide: Slide, tissue: Tissue, journal: Journal, floor: float) -> Scan:
    """Find the candidates in the tissue; tiles that the journal holds are not read again.

    Raises:
        InputError: No tile can be read, or the file is gone.
        DeviceError: See `Detector.detect`.
        OSError: The journal cannot be written.
    """
    tiles, areas_mm2 = _choose_tiles(detector, slide, tissue)
    waiting = [tile for tile in tiles if _name(tile) not in journal.done]
    new_mm2 = 0.0
    faults: list[Fault] = []
    workers = Workers(one_computes=detector.device.type == "cuda")

    def look(batch: Sequence[Tile]) -> list[tuple[Tile, np.ndarray | Fault]]:
        """The candidates of some tiles, or why there are none."""
        with workers.reading.busy():
            pixels = {tile: _read(detector, slide, tile, areas_mm2) for tile in batch}
        whole = {tile: each for tile, each in pixels.items() if isinstance(each, np.ndarray)}
        with workers.computing.busy():
            found = dict(zip(whole, detector.scan(list(whole), list(whole.values()), floor), strict=True))
        return [(tile, each if isinstance(each, Fault) else found[tile]) for tile, each in pixels.items()]

    total_mm2, waiting_mm2 = (sum(areas_mm2[_name(tile)] for tile in some) for some in (tiles, waiting))
    with progress(total_mm2, unit="mm²", what=slide.path.name, done=total_mm2 - waiting_mm2) as bar:
        for batch in workers.map(look, cut(waiting, FORWARD_TILES[detector.device.type])):
            for tile, found in batch:
                if isinstance(found, Fault):
                    faults.append(found)  # not in the journal: another start reads it again
                else:
                    journal.add(_name(tile), found.tolist())
                new_mm2 += areas_mm2[_name(tile)]
                bar.update(areas_mm2[_name(tile)])
    if tiles and len(faults) == len(tiles):
        raise InputError(
            f"no tile of {slide.path.name} can be read", got=faults[0].reason, expected="pixels", remedy="copy it again"
        )
    arrays = [np.array(journal.done[name]).reshape(-1, 4) for name in map(_name, tiles) if name in journal.done]
    candidates = np.concatenate([np.empty((0, 4)), *arrays])
    return Scan(candidates, faults, len(tiles), workers.computing.any_s, workers.reading.total_s, new_mm2)


def _choose_tiles(detector: Detector, slide: Slide, tissue: Tissue) -> tuple[list[Tile], dict[str, float]]:
    """The tiles in whose cores is tissue, and its mm² by their names."""
    tiles, areas_mm2 = [], {}
    for tile in detector.plan(slide):
        left, top, right, bottom = _measure_core(detector, slide, tile)
        area_mm2 = tissue.measure_box_mm2(
            left * slide.mpp.x, top * slide.mpp.y, right * slide.mpp.x, bottom * slide.mpp.y
        )
        if area_mm2:
            tiles.append(tile)
            areas_mm2[_name(tile)] = area_mm2
    return tiles, areas_mm2


def _measure_core(detector: Detector, slide: Slide, tile: Tile) -> tuple[float, float, float, float]:
    """A tile's core in pixels of level 0."""
    sx, sy = slide.measure_scale(detector.bundle.input.mpp)
    return tile.x.low * sx, tile.y.low * sy, tile.x.high * sx, tile.y.high * sy


def _read(detector: Detector, slide: Slide, tile: Tile, areas_mm2: dict[str, float]) -> np.ndarray | Fault:
    """A tile's pixels, or why there are none."""
    try:
        return detector.read(slide, tile)
    except InputError as error:
        slide.check_exists()
        left, top, right, bottom = map(round, _measure_core(detector, slide, tile))
        return Fault(left, top, right - left, bottom - top, areas_mm2[_name(tile)], str(error.got))


def _name(tile: Tile) -> str:
    """A tile's name in the journal."""
    return f"{tile.x.start},{tile.y.start}"
