from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mitoscope.errors import DataError
from mitoscope.training.data.field_sources.sheets import (
    PIECES,
    SHEET_PX,
    LabelledFields,
    make_sheets,
)
from mitoscope.training.data.samples import TRAIN_ONLY

N_CROPS = 240
DOT = (20, 0, 60)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Crops of a light colour of their own with a dark dot in the middle; the first two show each other's dot."""
    folder, random = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    table = []
    for number in range(N_CROPS):
        crop = np.full((128, 128, 3), random.integers(150, 250, 3), np.uint8)
        crop[63:66, 63:66] = DOT
        if number < 2:
            x = 64 + (40 if number == 0 else -40)
            crop[63:66, x - 1 : x + 2] = DOT
        Image.fromarray(crop).save(folder / f"{number}.png")
        slide = "s0" if number < 2 else f"s{number}"
        table.append((str(folder / f"{number}.png"), slide, "crops", 1000 + 40 * number, 500))
    return pd.DataFrame(table, columns=["path", "case", "source", "x_px", "y_px"])


@pytest.fixture(scope="module")
def sheets(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> LabelledFields:
    return make_sheets(rows, tmp_path_factory.mktemp("sheets"))


def test_every_dot_in_a_sheet_is_a_figure_and_every_figure_is_a_dot(sheets: LabelledFields) -> None:
    assert len(sheets.fields) == 2  # 480 pieces for sheets of 225
    for field in sheets.fields.itertuples():
        pixels = np.asarray(Image.open(field.path))
        assert pixels.shape == (SHEET_PX, SHEET_PX, 3)
        dots = (pixels == DOT).all(axis=2)
        own = sheets.points[sheets.points["image_id"] == field.image_id]
        for x, y in own[["x_px", "y_px"]].astype(int).to_numpy():
            assert dots[y - 1 : y + 2, x - 1 : x + 2].all()
        assert dots.sum() == 9 * len(own)
        assert 0.8 * PIECES**2 < len(own) <= PIECES**2 + 2


def test_sheets_are_training_fields_at_the_crops_resolution(sheets: LabelledFields) -> None:
    assert set(sheets.fields["part"]) == {TRAIN_ONLY}
    assert set(sheets.fields["read_mpp"]) == {0.25}
    assert set(sheets.points["label"]) == {"mitotic figure"}


def test_the_same_seed_gives_the_same_sheets(rows: pd.DataFrame, sheets: LabelledFields, tmp_path: Path) -> None:
    again = make_sheets(rows, tmp_path)
    for one, other in zip(sheets.fields["path"], again.fields["path"], strict=True):
        assert Path(one).read_bytes() == Path(other).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"x_px": None}, "crops without x_px"), ({"path": None}, "crops without path")],
)
def test_crops_without_a_place_are_refused(
    rows: pd.DataFrame, tmp_path: Path, change: dict[str, None], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make_sheets(rows.assign(**change), tmp_path)


def test_too_few_crops_are_refused(rows: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few crops for a sheet: got 10"):
        make_sheets(rows.head(10), tmp_path)
