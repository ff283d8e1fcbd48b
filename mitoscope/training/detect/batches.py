"""Prepared fields → batches of windows with the points in them, read from the memory map."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mitoscope.bundle.inputs import InputSpec
from mitoscope.images.density import apply_table, make_table, measure_density, read_windows
from mitoscope.networks.rtmdet import STRIDES
from mitoscope.training.augment import find_reach
from mitoscope.training.data.fields import FieldData
from mitoscope.training.data.sampler import load_batches
from mitoscope.training.detect.patches import Draw, Patches, list_patches, list_tiles
from mitoscope.training.detect.settings import DetectConfig, DetectSettings

Batch = dict[str, Tensor]
BEYOND = 255  # the value of pixels outside of a field: glass


class Figures:
    """The figures of each field: float32 (G, 3), x and y in its pixels and the number of the class."""

    def __init__(self, data: FieldData, rows: np.ndarray, settings: DetectSettings) -> None:
        points = data.points_of(rows)
        points = points[points["label"].isin(settings.classes)]
        numbers = points["label"].map({name: k for k, name in enumerate(settings.classes)})
        table = points[["x_px", "y_px"]].assign(number=numbers)
        none = np.empty((0, 3), np.float32)
        found = {int(row): part.to_numpy(np.float32) for row, part in table.groupby(points["row"])}
        self.of_row = {int(row): found.get(int(row), none) for row in rows}

    def within(self, row: int, left: int, top: int, side_px: int) -> np.ndarray:
        """Those in a window, in its pixels."""
        moved = self.of_row[row] - np.array([left, top, 0], np.float32)
        inside = ((moved[:, :2] >= 0) & (moved[:, :2] < side_px)).all(axis=1)
        return np.asarray(moved[inside])


class Fields:
    """The pixels of some fields, as stored; or as inference shows them, by the tables of `find_tables`."""

    def __init__(self, data: FieldData, tables: Mapping[int, np.ndarray] | None = None) -> None:
        self.data, self.tables = data, tables

    def read(self, row: int, left: int, top: int, side_px: int) -> np.ndarray:
        """A square of a field, with glass outside of it: uint8 (side_px, side_px, 3)."""
        square = np.full((side_px, side_px, 3), BEYOND, np.uint8)
        seen = self.data.field(row)[max(top, 0) : top + side_px, max(left, 0) : left + side_px]
        y, x = max(-top, 0), max(-left, 0)
        square[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
        return apply_table(square, self.tables[row]) if self.tables else square


def find_tables(data: FieldData, rows: np.ndarray, spec: InputSpec) -> dict[int, np.ndarray] | None:
    """What brings each field to the density that `spec` names, by its row; None where it names none."""
    if not spec.density_mean:
        return None
    tables = {}
    for row in rows.tolist():
        field = data.field(row)

        def read(left: int, top: int, width: int, height: int, field: np.ndarray = field) -> np.ndarray:
            return field[top : top + height, left : left + width]

        density = measure_density(read_windows(read, field.shape[1], field.shape[0]))
        tables[row] = make_table(density, spec.density_mean, spec.density_std)
    return tables


class PatchDataset(Dataset[Batch]):
    """Windows around patches, large enough to be turned and zoomed. Indexed with draws, it returns a whole batch.

    A batch is a dict: ``windows`` uint8 (B, W, W, 3), and ``figures`` float32 (G, 4): number of the window, x and y in
    its pixels, number of the class.
    """

    def __init__(self, data: FieldData, rows: np.ndarray, settings: DetectSettings) -> None:
        self.data, self.figures = data, Figures(data, rows, settings)
        self.fields = Fields(data)
        self.patches: Patches = list_patches(data, rows, settings)
        self.patch_px = settings.input.size_px
        self.margin_px = math.ceil((find_reach(settings.augment) - 1) / 2 * self.patch_px)
        self._places = self.patches.table[["row", "x_px", "y_px"]].to_numpy()

    def __getitems__(self, draws: list[Draw]) -> Batch:
        """The batch of some draws."""
        return _cut(self.fields, self.figures, [self._place(*draw) for draw in draws], self.patch_px, self.margin_px)

    def __getitem__(self, draw: Draw) -> Batch:
        return self.__getitems__([draw])

    def _place(self, patch: int, x: float, y: float) -> tuple[int, int, int]:
        """The field, and the patch's upper left corner: inside of the field as far as that is large enough."""
        row, x_px, y_px = self._places[patch]
        height, width, _ = self.data.field(int(row)).shape
        corner = []
        for centre, size in ((x_px + x * self.patch_px, width), (y_px + y * self.patch_px, height)):
            room = size - self.patch_px
            corner.append(room // 2 if room < 0 else round(min(max(centre - self.patch_px / 2, 0), room)))
        return int(row), corner[0], corner[1]


class TileDataset(Dataset[Batch]):
    """Tiles that cover some fields. Its batches have no margin, and name ``places`` int64 (B, 3): row, left, top."""

    def __init__(self, data: FieldData, rows: np.ndarray, settings: DetectSettings) -> None:
        self.fields = Fields(data, find_tables(data, rows, settings.input))
        self.figures = Figures(data, rows, settings)
        sizes = data.table[["width_px", "height_px"]].to_numpy()
        longest = -(-int(sizes[rows].max(initial=0)) // max(STRIDES)) * max(STRIDES)
        self.side_px = min(settings.tile.size_px, longest)
        self.places = [
            (int(row), *tile) for row in rows for tile in list_tiles(sizes[row, 0], sizes[row, 1], self.side_px)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The batch of the given tiles."""
        places = [self.places[k] for k in indices]
        return {**_cut(self.fields, self.figures, places, self.side_px), "places": torch.tensor(places)}

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])


def _cut(
    fields: Fields, figures: Figures, places: list[tuple[int, int, int]], side_px: int, margin_px: int = 0
) -> Batch:
    """Squares of fields with a margin around, and the figures in them."""
    whole_px = side_px + 2 * margin_px
    windows = np.empty((len(places), whole_px, whole_px, 3), np.uint8)
    inside = []
    for number, (row, patch_left, patch_top) in enumerate(places):
        left, top = patch_left - margin_px, patch_top - margin_px
        windows[number] = fields.read(row, left, top, whole_px)
        inside += [(number, *figure) for figure in figures.within(row, left, top, whole_px)]
    return {
        "windows": torch.from_numpy(windows),
        "figures": torch.tensor(inside, dtype=torch.float32).reshape(-1, 4),
    }


def training_batches(dataset: PatchDataset, config: DetectConfig, seed: int) -> "DataLoader[Batch]":
    """An epoch's patches."""
    n_draws = config.part.patches_per_epoch
    return load_batches(dataset, min(config.batch_size, n_draws), dataset.patches.sampler(n_draws, seed))


def validation_batches(dataset: TileDataset, size: int) -> "DataLoader[Batch]":
    """Every tile once, in the table's order."""
    return load_batches(dataset, size)
