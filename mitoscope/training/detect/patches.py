"""Where training patches lie, and the chance of each: data set, slide and patch are drawn one after the other.

Marzahl et al., *A bag of tricks for real-time mitotic figure detection*, 2025 (arXiv 2508.19804): a patch k of slide s
of data set d is drawn with probability 1 / D · 1 / S_d · 1 / K_s (the levels are theirs, the formula is ours), so that
neither large data sets nor slides with many labels dominate; and as many patches with a mitotic figure as without. Here
both hold at once: first with or without, then the three levels among what there is of it. A patch "without" is drawn
around a place without; moved by its offset, it may show a figure, see docs/adr/0014.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Generator

from mitoscope.errors import DataError
from mitoscope.training.data.fields import FieldData
from mitoscope.training.data.sampler import EpochSampler
from mitoscope.training.detect.settings import DetectSettings
from mitoscope.training.folds import case_groups

FIGURE, LOOK_ALIKE, EMPTY = "figure", "look-alike", "empty"
GLASS = 220  # a pixel without a darker value shows none
LEAST_TISSUE = 0.1  # share of a patch
JITTER = 0.4  # of the patch's side: how far its centre lies from a point at most, in x and in y
Draw = tuple[int, float, float]  # a patch, and its offset in shares of its side


@dataclass(frozen=True)
class Patches:
    """All patches that training draws from.

    Attributes:
        table: One row a patch: ``row`` (the field's), ``x_px`` and ``y_px`` (a place in the field, around which it
            lies), ``kind`` (`FIGURE`, `LOOK_ALIKE` or `EMPTY`), ``source``, ``case``, and ``weight``, its chance in
            each draw.
    """

    table: pd.DataFrame

    def sampler(self, n_draws: int, seed: int) -> EpochSampler:
        """Draws patches with replacement, each with a random offset."""
        weights = torch.from_numpy(self.table["weight"].to_numpy().copy())

        def draw(generator: Generator) -> list[Draw]:
            chosen = torch.multinomial(weights, n_draws, replacement=True, generator=generator)
            offsets = JITTER * (2 * torch.rand(n_draws, 2, generator=generator) - 1)
            return [(patch, x, y) for patch, (x, y) in zip(chosen.tolist(), offsets.tolist(), strict=True)]

        return EpochSampler(draw, n_draws, seed)


def draw_fields(data: FieldData, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw a share of the fields of each data set.

    Args:
        data: The fields.
        rows: int64 (N,), those to draw from.
        share: In (0, 1].
        seed: Of the order in which they are drawn: a smaller share is a part of a larger one.

    Returns:
        int64 (n,): at least one field of each data set, in the order of ``rows``.
    """
    random, sources = np.random.default_rng(seed), data.table["source"].iloc[rows].to_numpy()
    drawn = np.zeros(len(rows), dtype=bool)
    for source in np.unique(sources):
        own = random.permutation(np.flatnonzero(sources == source))
        drawn[own[: math.ceil(share * len(own))]] = True
    return rows[drawn]


def list_patches(data: FieldData, rows: np.ndarray, settings: DetectSettings) -> Patches:
    """List the patches of some fields: one around each labelled point, and a grid where no figure is.

    Args:
        data: The fields.
        rows: Those that are trained on.
        settings: The detector's.

    Raises:
        DataError: There is no figure, or nothing else.
    """
    points = data.points_of(rows)
    is_figure = points["label"].isin(settings.classes)
    around = points[["row", "x_px", "y_px"]].assign(kind=np.where(is_figure, FIGURE, LOOK_ALIKE))
    empty = _list_empty(data, rows, points[is_figure], settings.input.size_px)
    table = pd.concat([around, empty], ignore_index=True)
    of_field = data.table.assign(case=case_groups(data.table))[["source", "case"]]
    table = table.join(of_field, on="row")
    if (table["kind"] == FIGURE).nunique() < 2:
        raise DataError(
            "the folds that are trained on hold no usable patches",
            got=table["kind"].value_counts().to_dict(),
            expected=f"points of {', '.join(settings.classes)}, and places without",
            remedy="add data, or correct --set classes=…",
        )
    return Patches(table.assign(weight=weigh(table, settings)))


def weigh(table: pd.DataFrame, settings: DetectSettings) -> pd.Series:
    """The chance of each patch in each draw, float64, summing to 1.

    Args:
        table: See `Patches`; ``weight`` is not read.
        settings: The detector's.
    """
    side = (table["kind"] == FIGURE).rename("side")
    share = side.map({True: settings.figure_share, False: 1 - settings.figure_share})
    if not settings.hierarchical:
        return share / side.groupby(side).transform("size")
    n_sources = table.groupby(side)["source"].transform("nunique")
    n_cases = table.groupby([side, "source"])["case"].transform("nunique")
    slide = table.groupby([side, "source", "case"])
    within = table["kind"].map(
        {FIGURE: 1.0, LOOK_ALIKE: settings.look_alike_share, EMPTY: 1 - settings.look_alike_share}
    )
    within = within.where(slide["kind"].transform("nunique") > 1, 1.0)  # a slide of one kind gives that alone
    n_patches = table.groupby([side, "source", "case", "kind"])["row"].transform("size")
    return share / n_sources / n_cases * within / n_patches


def _list_empty(data: FieldData, rows: np.ndarray, figures: pd.DataFrame, side_px: int) -> pd.DataFrame:
    """The middles of those squares of a grid that show tissue and no figure."""
    places = []
    for row in rows:
        own, field = figures.loc[figures["row"] == row, ["x_px", "y_px"]].to_numpy(), data.field(row)
        for left, top in list_tiles(field.shape[1], field.shape[0], side_px):
            inside = ((own >= (left, top)) & (own < (left + side_px, top + side_px))).all(axis=1)
            seen = field[top : top + side_px, left : left + side_px].min(axis=2)
            if not inside.any() and (seen < GLASS).mean() >= LEAST_TISSUE:
                places.append((row, left + side_px / 2, top + side_px / 2, EMPTY))
    return pd.DataFrame(places, columns=["row", "x_px", "y_px", "kind"])


def list_tiles(width_px: int, height_px: int, side_px: int) -> list[tuple[int, int]]:
    """The upper left corners of squares that cover a field: as few as possible, the last ones moved inside."""
    across, down = (
        [min(k * side_px, max(0, size - side_px)) for k in range(-(-size // side_px))] for size in (width_px, height_px)
    )
    return [(left, top) for top in down for left in across]
