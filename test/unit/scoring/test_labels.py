import pandas as pd
import pytest

from mitoscope.errors import DataError
from mitoscope.scoring.labels import FolderLabels, LabelTable, join_labels, parse_labels, read_labels


@pytest.fixture
def save(tmp_path):
    """A function (text, name) that writes a file."""

    def save(text, name="t.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return save


def test_labels_of_both_vocabularies(save):
    table = read_labels(
        save("image_id,label,domain,other\na,AMF,breast,1\nb,nmf,,2\nc,Normal ,lung,3\nd,atypical,,4\n")
    )
    assert list(table["label"]) == ["atypical", "normal", "normal", "atypical"]
    assert list(table["domain"]) == ["breast", None, "lung", None]
    assert list(table["case"]) == [None] * 4


def test_an_unknown_label_is_refused(save):
    with pytest.raises(DataError, match=r"unknown label: got \['AMM'\]"):
        read_labels(save("image_id,label\na,AMM\nb,Normal\n"))


def test_labels_from_folders():
    image_ids = pd.Series(["x/Atypical/1.png", "NMF/1.png", "y/normal/2.png"])
    assert list(FolderLabels().read(image_ids)["label"]) == ["atypical", "normal", "normal"]
    for names in (["AMF/1.png", "1.png"], ["1.png"]):
        with pytest.raises(DataError, match=r"1 crops have no label: got '1.png'"):
            FolderLabels().read(pd.Series(names))


@pytest.mark.parametrize(
    ("labelled", "said"),
    [
        (["a"], "1 predictions have no label: got 'b'"),
        (["a", "b", "c", "d"], "2 labels have no prediction: got 'c', 'd'"),
    ],
)
def test_nothing_is_scored_on_a_part(labelled, said):
    labels = pd.DataFrame({"image_id": labelled, "label": "normal", "domain": None, "case": None})
    with pytest.raises(DataError, match=said):
        join_labels(pd.DataFrame({"image_id": ["a", "b"]}), labels)


@pytest.mark.parametrize("header", ["Domain", "CASE", " domain"])
def test_misspelt_columns_are_refused(save, header):
    with pytest.raises(DataError, match="misspelt columns"):
        read_labels(save(f"image_id,label,{header}\na,AMF,x\n"))


def test_the_word_folders_and_a_path_name_different_sources(save):
    path = save("image_id,label\na,AMF\n")
    assert parse_labels("folders") == FolderLabels()
    assert parse_labels(str(path)) == LabelTable(path)
    assert parse_labels("./folders") != FolderLabels()  # a file of that name
    assert LabelTable(path).describe()["name"] == "t.csv"
    assert FolderLabels().describe() == {"name": "folders", "sha256": None}
