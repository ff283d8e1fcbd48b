import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mitoscope.errors import DataError
from mitoscope.training.data.sources import READERS
from mitoscope.training.data.sources.ami_br import AmiBr
from mitoscope.training.data.sources.atnorm import AtnormBr, AtnormMd
from mitoscope.training.data.sources.midog25 import Midog25
from mitoscope.training.data.sources.omg_octo import OmgOcto

NAMES = {"ami_br": "AMi-Br", "midog25": "MIDOG25", "omg_octo": "OMG-Octo"}


@pytest.fixture
def omg_octo_csv(tmp_path: Path) -> Path:
    """The CSV with image_file and label: 1,378 AMF, 379 MF and two of another kind."""
    labels = ["AMF"] * 1378 + ["MF"] * 379 + ["non-mitosis"] * 2
    files = [f"slide{row // 20}_x{row}_y7_10_20_40_50.png" for row in range(len(labels))]
    pd.DataFrame({"image_file": files, "label": labels}).to_csv(tmp_path / "omg.csv", index=False)
    return tmp_path / "omg.csv"


@pytest.fixture
def tables(midog25_csv: Path, ami_br_csv: Path, omg_octo_csv: Path) -> dict[str, Path]:
    return {"midog25": midog25_csv, "ami_br": ami_br_csv, "omg_octo": omg_octo_csv}


@pytest.fixture
def spoil(tables: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A function (reader, change) that writes a changed copy of a reader's table."""

    def write(reader: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
        change(pd.read_csv(tables[reader])).to_csv(tmp_path / "spoilt.csv", index=False)
        return tmp_path / "spoilt.csv"

    return write


def class_folders(folder: Path, n_atypical: int, n_normal: int) -> Path:
    """Empty files: a reader counts names, and leaves the pixels to prepare."""
    for label, n in (("Atypical", n_atypical), ("Normal", n_normal)):
        (folder / label).mkdir(parents=True)
        for number in range(n):
            (folder / label / f"{label[0]}{number:04}.png").touch()
    return folder


def test_ami_br_knows_slides_places_votes_and_sub_classes(ami_br_csv: Path, tmp_path: Path) -> None:
    rows = AmiBr(ami_br_csv, tmp_path / "crops").rows()
    assert rows["label"].value_counts().to_dict() == {"normal": 2888, "atypical": 832}
    assert rows["image_id"].is_unique
    first, tupac = rows.iloc[0], rows[rows["cohort"] == "TUPAC16"].iloc[-1]
    assert first[["image_id", "case", "cohort", "label", "species", "x_px", "y_px"]].tolist() == [
        *("AMi-Br/MIDOG21_0", "MIDOG21/000.tiff", "MIDOG21", "atypical", "human", 60, 0),
    ]
    assert first["path"] == str(tmp_path / "crops" / "Atypical" / "MIDOG21_0.png")
    assert first["atypical_votes"] == pytest.approx(2 / 3)
    assert (first["subclass_1"], first["subclass_2"]) == ("AMF multipolar", "NMF metaphase")
    assert (tupac["case"], tupac["label"], tupac["atypical_votes"]) == ("TUPAC16/199.tiff", "normal", 0)


def test_ami_br_takes_the_benchmarks_split(ami_br_csv: Path, tmp_path: Path) -> None:
    split = tmp_path / "train_split.csv"
    split.write_text("dataset_uid\nMIDOG21_0.png\nTUPAC16_3.png\n")
    rows = AmiBr.at([split, ami_br_csv]).rows()
    assert rows.loc[rows["part"] == "train", "image_id"].tolist() == ["AMi-Br/MIDOG21_0", "AMi-Br/TUPAC16_3"]
    assert set(rows["part"]) == {"train", "test"}
    split.write_text("dataset_uid\nMIDOG21_99999.png\n")
    with pytest.raises(DataError, match="names crops that .* has not: got .'MIDOG21_99999.png'"):
        AmiBr.at([split, ami_br_csv]).rows()


def test_midog25_names_slides_as_ami_br_does(midog25_csv: Path, ami_br_csv: Path, tmp_path: Path) -> None:
    rows = Midog25(midog25_csv, tmp_path).rows()
    breast = rows[rows["domain"] == "human breast cancer"]
    midog21 = AmiBr(ami_br_csv).rows().query("cohort == 'MIDOG21'")
    place = ["case", "x_px", "y_px", "label"]
    assert breast[place].to_numpy().tolist() == midog21[place].to_numpy().tolist()
    assert set(breast["scanner"]) == {"Hamamatsu XR"}
    first = rows.iloc[0]
    assert first[["image_id", "source", "cohort", "species", "scanner"]].tolist() == [
        *("MIDOG25/1", "MIDOG25", "MIDOG25", "canine", "3D Histech"),
    ]
    assert first["case"] == "MIDOG++/canine-cutaneous-mast-cell-tumor000.tiff"
    assert first["path"] == str(tmp_path / "1.png")
    assert first["atypical_votes"] == 1  # of two experts; the third was not asked


def test_omg_octo_keeps_mitotic_figures_and_counts_what_it_leaves(
    omg_octo_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = OmgOcto(omg_octo_csv).rows()
    assert rows["label"].value_counts().to_dict() == {"atypical": 1378, "normal": 379}
    assert rows["case"].nunique() == 88
    assert rows["case"].iloc[0] == "OMG-Octo/slide0"
    assert "left out of OMG-Octo: rows with the labels {'non-mitosis': 2}" in capsys.readouterr().out


@pytest.mark.parametrize(("reader", "counts"), [(AtnormBr, (128, 618)), (AtnormMd, (219, 1888))])
def test_folders_of_two_classes_are_read(tmp_path: Path, reader: type[AtnormBr], counts: tuple[int, int]) -> None:
    rows = reader.at([class_folders(tmp_path, *counts)]).rows()
    assert rows["label"].value_counts().to_dict() == {"atypical": counts[0], "normal": counts[1]}
    assert rows["path"].iloc[0] == str(tmp_path / "Normal" / "N0000.png")
    assert rows["image_id"].iloc[-1].endswith(f"/A{counts[0] - 1:04}")
    assert "case" not in rows


@pytest.mark.parametrize("reader", [AtnormBr, AtnormMd])
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, reader: type[AtnormBr]) -> None:
    for folder in (tmp_path, class_folders(tmp_path / "part", 3, 1)):
        with pytest.raises(DataError, match="is not the published one"):
            reader.at([folder]).rows()


@pytest.mark.parametrize("reader", NAMES)
def test_a_table_short_of_a_row_is_refused_with_the_counts_that_differ(reader: str, spoil: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=f"{NAMES[reader]} is not the published one: got .*atypical[^,]*, expected"):
        READERS[reader]([spoil(reader, lambda table: table.iloc[1:])]).rows()


def test_the_earlier_midog25_with_two_figures_twice_is_refused(spoil: Callable[..., Path]) -> None:
    def twice(table: pd.DataFrame) -> pd.DataFrame:
        normal = table[(table["Tumor"] == "human breast cancer") & (table["majority"] == "NMF")]
        return pd.concat([table, normal.head(2)])

    with pytest.raises(DataError, match=r"got {\('human breast cancer', 'normal'\): 1319}, expected .* 1317"):
        Midog25(spoil("midog25", twice)).rows()


@pytest.mark.parametrize(
    ("reader", "column"), [("ami_br", "expert2_label"), ("midog25", "coordinateX"), ("omg_octo", "label")]
)
def test_a_table_without_a_column_or_a_value_is_refused(reader: str, column: str, spoil: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=f"lacks columns: got no {column}, expected"):
        READERS[reader]([spoil(reader, lambda table: table.drop(columns=column))]).rows()
    empty = spoil(reader, lambda table: table.assign(**{column: table[column].where(table.index != 5)}))
    with pytest.raises(DataError, match=f"empty cells: got .'{column}': 1"):
        READERS[reader]([empty]).rows()


@pytest.mark.parametrize(
    ("reader", "column"),
    [("ami_br", "majority_atypical"), ("ami_br", "expert3_atypical"), ("midog25", "majority"), ("midog25", "expert3")],
)
def test_a_label_outside_the_vocabulary_is_named(reader: str, column: str, spoil: Callable[..., Path]) -> None:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{column: table[column].astype(object).where(table.index != 5, "mitosis")})

    with pytest.raises(DataError, match=f"unknown labels in the column {column}: got .'mitosis'"):
        READERS[reader]([spoil(reader, change)]).rows()


def test_coordinates_are_whole_pixels(spoil: Callable[..., Path]) -> None:
    for value in ("here", 1.5):
        change = lambda table, value=value: table.assign(x=table["x"].astype(object).where(table.index != 5, value))  # noqa: E731
        with pytest.raises(DataError, match="unusable coordinates in the column x"):
            AmiBr(spoil("ami_br", change)).rows()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00a,b", None])
def test_an_unreadable_table_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "AMI-BR.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"AMI-BR.csv (cannot be read|lacks columns)"):
        AmiBr(tmp_path / "AMI-BR.csv").rows()


def test_folder_and_table_are_found_in_any_order_or_in_one_place(tmp_path: Path, midog25_csv: Path) -> None:
    unpacked = tmp_path / "MIDOG25_Binary_Classification_Train_Set"
    unpacked.mkdir()
    Image.new("RGB", (128, 128)).save(unpacked / "1.png")
    assert Midog25.at([tmp_path, midog25_csv]) == Midog25.at([midog25_csv, tmp_path]) == Midog25(midog25_csv, unpacked)
    (tmp_path / "MIDOG25.csv").write_bytes(midog25_csv.read_bytes())
    assert Midog25.at([tmp_path]) == Midog25(tmp_path / "MIDOG25.csv", unpacked)
    assert Midog25.at([midog25_csv.parent]) == Midog25(midog25_csv, None)  # holds no crops


def test_what_cannot_be_a_data_set_is_refused(tmp_path: Path, ami_br_csv: Path) -> None:
    for paths, message in (
        ([tmp_path, tmp_path], "--ami-br is not understood"),
        ([tmp_path / "nowhere", ami_br_csv], "nowhere does not exist: got no such file or folder"),
        ([tmp_path], "--ami-br needs one table: got .., expected AMI-BR.csv"),
        ([ami_br_csv, ami_br_csv], "--ami-br needs one table"),
    ):
        with pytest.raises(DataError, match=message):
            AmiBr.at(paths)


@pytest.mark.data
def test_the_published_tables_are_read() -> None:
    if "MITOSIS_DATA" not in os.environ:
        pytest.skip("MITOSIS_DATA, the folder with the published tables, is not set")
    labels = Path(os.environ["MITOSIS_DATA"]) / "labels"
    ami_br = AmiBr.at([labels / "AMI-BR.csv", labels / "amibr_train_split.csv"]).rows()
    assert ami_br["part"].value_counts().to_dict() == {"train": 2894, "test": 826}
    midog25 = Midog25(labels / "MIDOG25.csv").rows()
    place = ["case", "x_px", "y_px", "label"]
    assert len(midog25.merge(ami_br, on=place)) == 1721
    assert midog25["case"].nunique() == 475
    assert sorted(midog25["scanner"].unique()) == ["3D Histech", "Aperio CS2", "Hamamatsu S360", "Hamamatsu XR"]
