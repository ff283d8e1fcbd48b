import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitoscope.errors import DataError
from mitoscope.training.data.field_sources import FIELD_READERS
from mitoscope.training.data.field_sources.midogpp import COUNTS, N_LABELLED, read_midogpp
from mitoscope.training.data.field_sources.mitos import read_icpr12, read_mitos14
from mitoscope.training.data.field_sources.truth import read_truth
from mitoscope.training.data.field_sources.yolo import read_yolo

ROWS = "image,x,y,label,confidence\n{0}_00.jpg,10.5,20,mitotic figure,1.0\n{0}_00.jpg,3,4,hard negative,0.2\n"


def put_images(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((50, 100, 3), 200, np.uint8)).save(folder / name)
    return folder


def put_contest(folder: Path, slide: str) -> Path:
    put_images(folder / "images", f"{slide}_00.jpg", f"{slide}_01.jpg")
    (folder / "annotations.csv").write_text(ROWS.format(slide))
    return folder


def test_the_two_contests_share_slides_whatever_the_scanner(tmp_path: Path) -> None:
    hamamatsu = read_mitos14([put_contest(tmp_path / "h", "H04")])
    aperio = read_icpr12([put_contest(tmp_path / "a", "A04")])
    assert set(hamamatsu.fields["case"]) == set(aperio.fields["case"]) == {"MITOS/04"}
    assert hamamatsu.fields["image_id"].tolist() == ["MITOS14/H04_00.jpg", "MITOS14/H04_01.jpg"]
    assert (hamamatsu.fields["read_mpp"].unique(), aperio.fields["read_mpp"].unique()) == ([0.2275], [0.2456])
    assert hamamatsu.points[["image_id", "x_px", "y_px", "label"]].to_numpy().tolist() == [
        ["MITOS14/H04_00.jpg", 10.5, 20, "mitotic figure"],
        ["MITOS14/H04_00.jpg", 3, 4, "hard negative"],
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (ROWS.format("H05"), "names images that are missing: got 1, such as H05_00.jpg"),
        (ROWS.format("H04").replace("hard negative", "mitosis"), "unknown labels: got .'mitosis'."),
        (ROWS.format("H04").replace("10.5", "left"), "holds unusable places"),
        ("image,x\n", "lacks columns: got no y, no label, expected"),
    ],
)
def test_a_contest_s_broken_table_is_refused(tmp_path: Path, table: str, message: str) -> None:
    put_contest(tmp_path, "H04")
    (tmp_path / "annotations.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        read_mitos14([tmp_path])


def midogpp(n_figures: int = COUNTS["mitotic figure"]) -> dict[str, list[dict[str, object]]]:
    """The published layout with the published counts: 553 images, the last 50 without a label."""
    images = [{"id": k, "file_name": f"{k:03}.tiff", "tumor_type": "human melanoma"} for k in range(1, 554)]
    categories = [1] * n_figures + [2] * COUNTS["hard negative"]
    marks = [
        {"image_id": 1 + k % N_LABELLED, "category_id": category, "bbox": [10, 20, 60, 70]}
        for k, category in enumerate(categories)
    ]
    return {"images": images, "annotations": marks}


def test_midogpp_takes_the_labelled_images_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "MIDOGpp.json").write_text(json.dumps(midogpp()))
    images = put_images(tmp_path / "images", "001.tiff", "002.tiff", "553.tiff")
    found = read_midogpp([tmp_path / "MIDOGpp.json", images])
    assert found.fields["image_id"].tolist() == ["MIDOG++/001.tiff", "MIDOG++/002.tiff"]
    assert found.fields["domain"].unique() == ["human melanoma"]
    assert set(found.points["image_id"]) == set(found.fields["image_id"])
    assert found.points[["x_px", "y_px"]].drop_duplicates().to_numpy().tolist() == [[35, 45]]
    assert "left out 501 of 503 labelled images" in capsys.readouterr().out


def test_another_table_than_midogpp_is_refused(tmp_path: Path) -> None:
    images = put_images(tmp_path / "images", "001.tiff")
    (tmp_path / "m.json").write_text(json.dumps(midogpp(n_figures=11_936)))
    with pytest.raises(DataError, match="MIDOG.. is not the published one: got .'mitotic figure': 11936."):
        read_midogpp([tmp_path / "m.json", images])
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read: got KeyError"):
        read_midogpp([tmp_path / "m.json", images])


@pytest.mark.data
def test_the_published_midogpp_is_read(tmp_path: Path) -> None:
    if "MITOSIS_DATA" not in os.environ:
        pytest.skip("MITOSIS_DATA, the folder with the published tables, is not set")
    table = Path(os.environ["MITOSIS_DATA"]) / "detection" / "labels" / "MIDOGpp.json"
    found = read_midogpp([table, put_images(tmp_path, "001.tiff")])
    assert len(found.points) > 0
    assert found.fields["domain"].tolist() == ["human breast cancer"]


def test_yolo_has_shares_of_the_image_and_images_without_a_figure(tmp_path: Path) -> None:
    put_images(tmp_path / "cmc", "a.png", "b.png", "c.png")
    (tmp_path / "cmc" / "a.txt").write_text("1 0.25 0.5 0.1 0.1\n0 0.1 0.2 0.1 0.1")
    (tmp_path / "cmc" / "b.txt").touch()
    found = read_yolo([tmp_path / "cmc"])
    assert found.fields["image_id"].tolist() == ["cmc/a.png", "cmc/b.png", "cmc/c.png"]
    assert found.points.to_numpy().tolist() == [["cmc/a.png", 25, 25, "hard negative"],
                                                ["cmc/a.png", 10, 10, "mitotic figure"]]  # fmt: skip
    (tmp_path / "cmc" / "classes.txt").write_text("lymphocyte\nplasma cell\n")
    assert read_yolo([tmp_path / "cmc"]).points["label"].tolist() == ["plasma cell", "lymphocyte"]
    (tmp_path / "cmc" / "a.txt").write_text("2 0.25 0.5 0.1 0.1")
    with pytest.raises(DataError, match="expected lines of a class from 0 to 1"):
        read_yolo([tmp_path / "cmc"])
    put_images(tmp_path / "cmc", "a.tif")
    with pytest.raises(DataError, match=r"a\.png has no text file of its own: got another image of that name"):
        read_yolo([tmp_path / "cmc"])
    (tmp_path / "cmc" / "a.tif").unlink()
    (tmp_path / "cmc" / "a.txt").rename(tmp_path / "cmc" / "d.txt")
    with pytest.raises(DataError, match="d.txt has no image"):
        read_yolo([tmp_path / "cmc"])


def test_any_truth_gives_its_own_classes_and_its_empty_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = put_images(tmp_path / "mine" / "images", "a.png", "b.png", "c.png")
    table = tmp_path / "mine" / "truth.csv"
    table.write_text("image,x_px,y_px,label,case\na.png,1,2,lymphocyte,s1\nb.png,,,,s2\na.png,3,4,hard negative,s1\n")
    found = read_truth([table, images])
    assert found.fields[["image_id", "case"]].to_numpy().tolist() == [["mine/a.png", "s1"], ["mine/b.png", "s2"]]
    assert found.points["label"].tolist() == ["lymphocyte", "hard negative"]
    assert "left out 1 images" in capsys.readouterr().out


def test_every_reader_says_what_it_needs(tmp_path: Path) -> None:
    for name, read in FIELD_READERS.items():
        paths = [tmp_path / "none"] * (2 if name in ("midogpp", "truth") else 1)
        with pytest.raises(DataError, match=r"none.* (holds no image|cannot be read)"):
            read(paths)
