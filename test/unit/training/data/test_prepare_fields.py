from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.training.data.field_sources.layout import LabelledFields
from mitoscope.training.data.field_sources.truth import read_truth
from mitoscope.training.data.fields import FieldData, read_fields
from mitoscope.training.data.prepare_fields import format_field_counts, prepare_fields
from mitoscope.training.data.rois import read_mpp
from mitoscope.training.data.samples import TRAIN_ONLY


def picture(seed: int, x: int = 30, y: int = 20) -> Image.Image:
    """120 × 80 px with a dark square of 8 px around (x, y)."""
    pixels = np.random.default_rng(seed).integers(190, 210, (80, 120, 3), dtype=np.uint8)
    pixels[y - 4 : y + 4, x - 4 : x + 4] = 40
    return Image.fromarray(pixels)


Make = Callable[[str], LabelledFields]


@pytest.fixture
def source(tmp_path: Path) -> Make:
    """A function (rows of truth.csv) that writes two images and reads them."""

    def make(rows: str) -> LabelledFields:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        picture(0).save(folder / "a.png")
        picture(1).save(folder / "b.tif", dpi=(25_400 / 0.25, 25_400 / 0.25))
        (folder / "truth.csv").write_text("image,x_px,y_px,label,case\n" + rows)
        return read_truth([folder / "truth.csv", folder])

    return make


GOOD = "a.png,30,20,mitotic figure,s1\nb.tif,30,20,hard negative,s2\nb.tif,90,40,mitotic figure,s2\n"


@pytest.fixture
def prepared(source: Make, tmp_path: Path) -> FieldData:
    return prepare_fields([source(GOOD)], tmp_path / "out", mpp=0.5, read_as=0.125)


def test_fields_and_points_come_to_one_resolution(prepared: FieldData) -> None:
    assert prepared.table[["read_mpp", "width_px", "height_px", "label"]].to_numpy().tolist() == [
        [0.125, 30, 20, "mitotic figure"],  # as --mpp says
        [0.25, 60, 40, "hard negative + mitotic figure"],  # as the TIFF says
    ]
    assert prepared.points[["x_px", "y_px"]].to_numpy().tolist() == [[7.5, 5], [15, 10], [45, 20]]
    assert prepared.mpp == 0.5
    for row, (x, y) in ((0, (7, 5)), (1, (15, 10))):
        field = prepared.field(row)
        assert field.shape == (prepared.table["height_px"][row], prepared.table["width_px"][row], 3)
        assert field[y, x].max() < 60
        assert field[0, 0].min() > 180
    assert not prepared.pixels.flags.writeable


def test_the_table_of_counts_is_complete(prepared: FieldData) -> None:
    head, _, row = format_field_counts(prepared).splitlines()
    assert head == "| data set | fields | slides | mm² | hard negative | mitotic figure |"
    assert row == "| mine | 2 | 2 | 0.0 | 1 | 2 |"


def test_a_part_without_a_figure_is_refused(prepared: FieldData) -> None:
    prepared.check_part("fold 0", np.array([0]))
    only_look_alikes = FieldData(prepared.table, prepared.points[prepared.points["x_px"] == 15], prepared.pixels)
    with pytest.raises(DataError, match="fold 0 holds no figure"):
        only_look_alikes.check_part("fold 0", np.array([0, 1]))


def test_other_points_are_other_data(prepared: FieldData) -> None:
    moved = FieldData(prepared.table, prepared.points.assign(x_px=1.0), prepared.pixels)
    assert moved.sha256 != prepared.sha256


def test_a_point_outside_is_refused(source: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a point of .*a.png cannot be used: got 130.0, 20.0"):
        prepare_fields([source("a.png,130,20,mitotic figure,s1\n")], tmp_path / "out", 0.5, 0.25)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("row", "column"), [("a.png,30,,mitotic figure,s1", "y_px"), ("a.png,30,20,,s1", "label")])
def test_a_point_that_lacks_something_is_refused(source: Make, row: str, column: str) -> None:
    with pytest.raises(DataError, match=f"truth.csv has an empty {column}: got line 2"):
        source(row + "\n")


def test_an_unknown_resolution_is_refused(source: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the resolution of .*a.png is not known.*--mpp"):
        prepare_fields([source(GOOD)], tmp_path / "out", 0.5)


def test_a_field_that_comes_twice_is_refused(source: Make, tmp_path: Path) -> None:
    one = source(GOOD)
    with pytest.raises(DataError, match="two fields have the same name"):
        prepare_fields([one, one], tmp_path / "out", 0.5, 0.25)
    renamed = LabelledFields(*(table.assign(image_id="x" + table["image_id"]) for table in (one.fields, one.points)))
    with pytest.raises(DataError, match="two fields have the same pixels"):
        prepare_fields([one, renamed], tmp_path / "out", 0.5, 0.25)


@pytest.mark.parametrize("name", ["fields.csv", "points.csv", "pixels.bin"])
def test_a_folder_that_is_not_whole_is_refused(prepared: FieldData, tmp_path: Path, name: str) -> None:
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-900] if name == "pixels.bin" else b"image_id\n")
    with pytest.raises(DataError, match="no usable fields"):
        read_fields(tmp_path / "out")
    path.unlink()
    with pytest.raises(DataError, match="no usable fields"):
        read_fields(tmp_path / "out")


def test_grey_images_and_other_bytes_are_refused(source: Make, tmp_path: Path) -> None:
    fields = source(GOOD)
    picture(0).convert("L").save(tmp_path / "mine" / "a.png")
    with pytest.raises(DataError, match="a.png cannot be read: got an image of mode L"):
        prepare_fields([fields], tmp_path / "out", 0.5, 0.25)
    (tmp_path / "mine" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="a.png cannot be read"):
        prepare_fields([fields], tmp_path / "out", 0.5, 0.25)


@pytest.mark.parametrize(("dpi", "mpp"), [(25_400 / 0.23, 0.23), (72, None), (None, None)])
def test_a_tiff_states_its_resolution_where_it_can_be_a_microscope_s(
    tmp_path: Path, dpi: float | None, mpp: float | None
) -> None:
    picture(0).save(tmp_path / "a.tif", **({"dpi": (dpi, dpi)} if dpi else {}))
    assert read_mpp(tmp_path / "a.tif") == (pytest.approx(mpp, rel=1e-4) if mpp else None)


def test_fields_without_any_figure_train_every_member(source: Make, tmp_path: Path) -> None:
    only_look_alikes = source(GOOD.replace("mitotic figure", "hard negative"))
    data = prepare_fields([only_look_alikes], tmp_path / "out", 0.5, 0.25)
    assert data.table["part"].tolist() == [TRAIN_ONLY] * 2


def test_prepared_fields_with_figures_validate(prepared: FieldData) -> None:
    assert prepared.table["part"].isna().all()


def test_a_repeated_option_adds_a_data_set(tmp_path: Path) -> None:
    options = []
    for seed, name in enumerate(("mine", "other")):
        (tmp_path / name).mkdir()
        picture(seed).save(tmp_path / name / "a.png")
        (tmp_path / name / "truth.csv").write_text("image,x_px,y_px,label\na.png,30,20,mitotic figure\n")
        options += ["--truth", str(tmp_path / name / "truth.csv"), str(tmp_path / name)]
    assert main(["train", "prepare", *options, "--mpp", "0.5", "--out", str(tmp_path / "out")]) == 0
    assert read_fields(tmp_path / "out").table["image_id"].tolist() == ["mine/a.png", "other/a.png"]
