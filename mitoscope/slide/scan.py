"""Every tile with tissue → the detector's candidates; pixels are read while the networks compute."""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mitoscope.detect.detector import FORWARD_TILES, Detector
from mitoscope.detect.tiles import Tile
from mitoscope.errors import InputError
from mitoscope.images.slide import Mpp, Slide
from mitoscope.progress import progress
from mitoscope.slide.ahead import ReadAhead
from mitoscope.slide.journal import Journal
from mitoscope.slide.tissue import Tissue

READ_AHEAD = 4  # tiles in memory that wait for the networks


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
        wait_s: Seconds that the networks waited for pixels, in this process.
        network_s: Seconds that the networks computed.
        read_s: Seconds that the thread read.
        new_mm2: Tissue of the tiles that this process computed.
    """

    candidates: np.ndarray
    faults: list[Fault]
    n_tiles: int
    wait_s: float
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
    wait_s = network_s = new_mm2 = 0.0
    faults: list[Fault] = []
    total_mm2, waiting_mm2 = (sum(areas_mm2[_name(tile)] for tile in some) for some in (tiles, waiting))
    with progress(total_mm2, unit="mm²", what=slide.path.name, done=total_mm2 - waiting_mm2) as bar:
        ahead = ReadAhead(lambda tile: detector.read(slide, tile), waiting, READ_AHEAD)
        source = iter(ahead)
        while True:
            started = time.perf_counter()
            batch = list(islice(source, FORWARD_TILES[detector.device.type]))
            if not batch:
                break
            pixels = {tile: _get(read, detector, slide, tile, areas_mm2) for tile, read in batch}
            wait_s += time.perf_counter() - started
            whole = {tile: each for tile, each in pixels.items() if isinstance(each, np.ndarray)}
            started = time.perf_counter()
            found = dict(zip(whole, detector.scan(list(whole), list(whole.values()), floor), strict=True))
            network_s += time.perf_counter() - started
            for tile, each in pixels.items():
                if isinstance(each, Fault):
                    faults.append(each)  # not in the journal: another start reads it again
                else:
                    journal.add(_name(tile), found[tile].tolist())
                new_mm2 += areas_mm2[_name(tile)]
                bar.update(areas_mm2[_name(tile)])
    if tiles and len(faults) == len(tiles):
        raise InputError(
            f"no tile of {slide.path.name} can be read", got=faults[0].reason, expected="pixels", remedy="copy it again"
        )
    arrays = [np.array(journal.done[name]).reshape(-1, 4) for name in map(_name, tiles) if name in journal.done]
    return Scan(np.concatenate([np.empty((0, 4)), *arrays]), faults, len(tiles), wait_s, network_s, ahead.busy_s,
                new_mm2)  # fmt: skip


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


def _get(
    read: "Future[np.ndarray]", detector: Detector, slide: Slide, tile: Tile, areas_mm2: dict[str, float]
) -> np.ndarray | Fault:
    """A tile's pixels, or why there are none."""
    try:
        return read.result()
    except InputError as error:
        slide.check_exists()
        left, top, right, bottom = map(round, _measure_core(detector, slide, tile))
        return Fault(left, top, right - left, bottom - top, areas_mm2[_name(tile)], str(error.got))


def _name(tile: Tile) -> str:
    """A tile's name in the journal."""
    return f"{tile.x.start},{tile.y.start}"
