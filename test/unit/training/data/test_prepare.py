import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mitoscope.cli import main
from mitoscope.errors import DataError, InputError
from mitoscope.images.crops import read_crops
from mitoscope.training.data.prepare import prepare
from mitoscope.training.data.sources.own import OwnCrops
from mitoscope.training.data.table import read_data

TABLE_1 = """\
canine cutaneous mast cell tumor 2327 351 1976 15.1
canine lung cancer 855 110 745 12.9
canine lymphoma 3959 317 3642 8.0
canine soft tissue sarcoma 1286 210 1076 16.3
human breast cancer 3720 832 2888 22.4
human melanoma 1150 271 879 23.6
human neuroendocrine tumor 639 85 554 13.3
total 13936 2176 11760 15.6"""  # as printed in the paper, but for the breast's two normals more


@dataclass(frozen=True)
class Made:
    """A data set of a few crops."""

    table: pd.DataFrame

    def rows(self) -> pd.DataFrame:
        return self.table


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[..., Made]:
    """A function (name, shades, labels) that writes a PNG of each shade of noise; the same shade, the same pixels."""

    def make(name: str, shades: list[int], labels: list[str] | None = None) -> Made:
        (tmp_path / name).mkdir()
        rows = []
        for number, shade in enumerate(shades):
            pixels = np.random.default_rng(shade).integers(0, 256, (128, 128, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
            label = labels[number] if labels else "normal"
            rows.append(
                {"image_id": f"{name}/{number}", "path": str(tmp_path / name / f"{number}.png"), "label": label}
            )
        return Made(pd.DataFrame(rows).assign(source=name, domain="lung"))

    return make


def test_crops_stand_in_the_tables_order_without_copies(
    tmp_path: Path, make_source: Callable[..., Made], capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_source("first", [1, 2, 1, 3, 4], ["normal", "normal", "normal", "atypical", "normal"])
    second = make_source("second", [5, 2, 3, 6])  # 3 is normal here
    prepare([first, second], tmp_path / "out")
    data = read_data(tmp_path / "out")
    assert data.table["image_id"].tolist() == ["first/0", "first/1", "first/4", "second/0", "second/3"]
    for crop, path, digest in zip(data.crops, data.table["path"], data.table["sha256"], strict=True):
        np.testing.assert_array_equal([crop], read_crops(Path(path)))
        assert digest == sha256(crop.tobytes()).hexdigest()
    said = capsys.readouterr().out
    assert "removed first/3 (atypical), second/2 (normal): two labels for the same pixels" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["crops.npy", "table.csv"]


def test_a_figure_at_a_known_place_is_not_even_read_twice(tmp_path: Path, make_source: Callable[..., Made]) -> None:
    place = {"case": "MIDOG21/002.tiff", "x_px": 70, "y_px": 80}
    first, second = (Made(make_source(name, [shade]).table.assign(**place)) for name, shade in (("a", 1), ("b", 2)))
    Path(second.table["path"].iloc[0]).unlink()
    assert prepare([first, second], tmp_path / "out")["image_id"].tolist() == ["a/0"]


def test_missing_images_are_counted_and_three_named(tmp_path: Path, make_source: Callable[..., Made]) -> None:
    source = make_source("x", [1, 2, 3, 4, 5])
    for number in (0, 1, 3, 4):
        (tmp_path / "x" / f"{number}.png").unlink()
    with pytest.raises(DataError, match=r"4 images are missing: got no .*0.png, no .*1.png, no .*3.png, expected"):
        prepare([source], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_broken_image_leaves_the_old_folder_as_it_was(tmp_path: Path, make_source: Callable[..., Made]) -> None:
    source = make_source("x", [1, 2, 3])
    prepare([source], tmp_path / "out")
    (tmp_path / "x" / "2.png").write_bytes(b"no PNG")
    with pytest.raises(InputError, match="2.png"):
        prepare([source], tmp_path / "out")
    assert len(read_data(tmp_path / "out").table) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["crops.npy", "table.csv"]


def test_crops_are_cut_from_the_slides_where_no_crop_is_given(
    tmp_path: Path, make_source: Callable[..., Made], save_tiff: Callable[..., Path]
) -> None:
    slide = np.random.default_rng(0).integers(1, 256, (150, 220, 3), dtype=np.uint8)
    save_tiff(tmp_path / "002.tiff", [slide])
    places = pd.DataFrame({"x_px": [64, 100, 3], "y_px": [64, 70, 70]}).astype("Int64")
    cut = places.assign(image_id=["c/0", "c/1", "c/2"], label="normal", source="c", domain="breast")
    cut["case"] = "MIDOG21/002.tiff"
    table = prepare([Made(cut), make_source("x", [1])], tmp_path / "out", rois=tmp_path)
    assert table["path"].tolist() == [str(tmp_path / "002.tiff")] * 3 + [str(tmp_path / "x" / "0.png")]
    crops = read_data(tmp_path / "out").crops
    np.testing.assert_array_equal(crops[0], slide[:128, :128])
    np.testing.assert_array_equal(crops[1], slide[6:134, 36:164])
    np.testing.assert_array_equal(crops[2, :, 61:], slide[6:134, :67])
    assert not crops[2, :, :61].any()
    with pytest.raises(DataError, match="3 crops have no image: got tables alone of .'c'.*--rois"):
        prepare([Made(cut)], tmp_path / "other")


def test_atnorm_md_beside_midog25_is_refused(tmp_path: Path, make_source: Callable[..., Made]) -> None:
    both = [make_source("MIDOG25", [1, 2]), make_source("AtNorM-MD", [1, 3])]
    with pytest.raises(DataError, match="share slides, .* got 1 crops that match none"):
        prepare(both, tmp_path / "out")
    with pytest.raises(DataError, match="got 2 crops"):
        prepare(both, tmp_path / "out", labels_only=True)
    assert not list((tmp_path / "out").iterdir())


def table_1(text: str) -> str:
    """The rows of Table 1 in what was printed, one space between the cells."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    head = lines.index("cancer type samples AMF NMF AMF %")
    return "\n".join(lines[head + 1 : head + 9])


def test_labels_alone_give_the_papers_table_1(
    tmp_path: Path, midog25_csv: Path, ami_br_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "prepare", "--midog25", str(midog25_csv), "--ami-br", str(ami_br_csv), "--labels-only"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert table_1(said) == TABLE_1
    assert "removed 1721 crops of MIDOG25: the same place of the same slide came before" in said
    assert "the other two are most likely" in said
    assert "wrote the labels of 13,936 crops" in said
    table = pd.read_csv(tmp_path / "labels.csv")
    assert len(table) == 13936
    assert table["sha256"].isna().all()
    assert table["image_id"].is_unique
    assert set(table.loc[table["cohort"] == "MIDOG21", "scanner"]) == {"Hamamatsu XR"}
    with pytest.raises(DataError, match="no usable data"):
        read_data(tmp_path)


@pytest.mark.data
def test_the_published_tables_give_the_papers_table_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "MITOSIS_DATA" not in os.environ:
        pytest.skip("MITOSIS_DATA, the folder with the published tables, is not set")
    labels = Path(os.environ["MITOSIS_DATA"]) / "labels"
    command = ["train", "prepare", "--midog25", str(labels / "MIDOG25.csv"), "--ami-br", str(labels / "AMI-BR.csv")]
    assert main([*command, "--labels-only", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert table_1(said) == TABLE_1
    assert "two labels" not in said


def test_a_wrong_command_is_one_line(tmp_path: Path, ami_br_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["train", "prepare", *out]) == 1
    assert capsys.readouterr().err.startswith("error: prepare needs a data set")
    assert main(["train", "prepare", "--ami-br", str(ami_br_csv), *out]) == 1
    said = capsys.readouterr().err
    assert "3720 crops have no image" in said
    assert said.count("\n") == 1


@pytest.fixture
def own_crops(tmp_path: Path) -> Path:
    """A folder of five noisy crops of several types, one of them below a subfolder."""
    folder = tmp_path / "ours"
    (folder / "A").mkdir(parents=True)
    for number, name in enumerate(["A/1.png", "2.jpg", "3.tiff", "4.png", "5.png"]):
        pixels = np.random.default_rng(number).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_ones_own_crops_are_read_with_their_labels(
    own_crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "image_id,label,domain,case,part,seen\n"
        "3.tiff,AMF,lung,s1,Test,x\nA/1.png,Normal,lung,s2,,\n2.jpg,NMF,,s1,test,\n4.png,amf ,,,,\n"
    )
    assert main(["train", "prepare", "--crops", str(labels), str(own_crops), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "ours: 4 crops of 2 cases; 1 without a case stay together; left out 1 crops that have no label\n" in said
    data = read_data(tmp_path / "out")
    table = data.table.set_index("image_id")
    assert table["label"].to_dict() == {
        **{"ours/2.jpg": "normal", "ours/3.tiff": "atypical", "ours/4.png": "atypical", "ours/A/1.png": "normal"}
    }
    assert table.loc["ours/3.tiff", ["domain", "case", "source"]].tolist() == ["lung", "s1", "ours"]
    assert table.loc["ours/4.png", ["domain", "case", "part"]].isna().all()
    assert table.index[table["part"] == "test"].tolist() == ["ours/2.jpg", "ours/3.tiff"]
    for crop, path in zip(data.crops, data.table["path"], strict=True):
        np.testing.assert_array_equal([crop], read_crops(Path(path)))


def test_ones_own_crops_may_lie_in_folders_named_by_class(tmp_path: Path, own_crops: Path) -> None:
    (own_crops / "A").rename(own_crops / "Atypical")
    (own_crops / "Normal").mkdir()
    for name in ("2.jpg", "3.tiff", "4.png", "5.png"):
        (own_crops / name).rename(own_crops / "Normal" / name)
    assert main(["train", "prepare", "--crops", str(own_crops), "--out", str(tmp_path / "out")]) == 0
    assert read_data(tmp_path / "out").table["label"].value_counts().to_dict() == {"normal": 4, "atypical": 1}


def test_ones_own_crops_are_refused_where_they_cannot_be_trained_on(
    tmp_path: Path, own_crops: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, stack = tmp_path / "labels.csv", own_crops / "3.tiff"
    page = Image.open(own_crops / "4.png")
    for text, message in (
        (
            "6.png,AMF",
            f"lacks crops that {labels} names: got 1, such as 6.png, expected paths below the folder, such as 2",
        ),
        ("4.png,mitosis", "labels.csv has an unknown label: got ['mitosis']"),
        ("3.tiff,AMF", "3.tiff is a stack: got 2 pages, expected one crop a file"),
        ("4.png,AMF,tset", "labels.csv has an unknown part: got ['tset'], expected train, test"),
    ):
        page.save(stack, save_all=True, append_images=[page])
        labels.write_text(f"image_id,label{',part' * (text.count(',') - 1)}\n{text}\n")
        assert main(["train", "prepare", "--crops", str(own_crops), str(labels), "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err
    for path, message in ((own_crops, "--crops is not understood"), (tmp_path / "no", "no does not exist")):
        assert main(["train", "prepare", "--crops", str(own_crops), str(path), "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err
    assert main(["train", "prepare", "--crops", str(own_crops), "--out", str(tmp_path / "out")]) == 1
    assert "crops have no label" in capsys.readouterr().err


def test_two_data_sets_of_one_name_are_refused(tmp_path: Path, own_crops: Path) -> None:
    other = tmp_path / "elsewhere" / "ours"
    shutil.copytree(own_crops, other)
    (tmp_path / "labels.csv").write_text("image_id,label\n4.png,AMF\n")
    both = [OwnCrops(folder, tmp_path / "labels.csv") for folder in (own_crops, other)]
    with pytest.raises(DataError, match="two data sets have the same name: got ours"):
        prepare(both, tmp_path / "out")
