from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from model.errors import DataError
from train.prepare import read_crop, remove_duplicates
from train.sources import AmiBr, AtnormBr


def rows(*labels_and_pixels: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"image_id": f"x/{k}", "label": label, "sha256": pixels, "source": "x"}
            for k, (label, pixels) in enumerate(labels_and_pixels)
        ]
    )


def test_one_of_two_equal_crops_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    kept = remove_duplicates(rows(("normal", "a"), ("normal", "b"), ("normal", "a")))
    assert kept["image_id"].tolist() == ["x/0", "x/1"]
    assert "dropped 1 duplicates of x" in capsys.readouterr().out


def test_equal_crops_with_two_labels_are_all_dropped_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    kept = remove_duplicates(rows(("normal", "a"), ("atypical", "a"), ("normal", "a"), ("normal", "b")))
    assert kept["image_id"].tolist() == ["x/3"]
    assert capsys.readouterr().out.count("two labels") == 3


def test_a_data_set_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Normal").mkdir()
    Image.new("RGB", (128, 128)).save(tmp_path / "Normal" / "1.png")
    with pytest.raises(DataError, match="AtNorM-Br is not the published one: got {'normal': 1}"):
        AtnormBr(tmp_path).rows()
    with pytest.raises(DataError, match="not the published one"):
        AtnormBr(tmp_path / "nowhere").rows()


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "AMI-BR.csv").write_text("slide,dataset,uid\n002.tiff,MIDOG21,6\n")
    with pytest.raises(DataError, match="lacks columns"):
        AmiBr(tmp_path, tmp_path / "AMI-BR.csv").rows()


def test_a_crop_reads_as_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_crop(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("fault", ["missing", "truncated", "too small"])
def test_an_unusable_crop_is_named(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "a.png"
    if fault != "missing":
        Image.new("RGB", (64, 64) if fault == "too small" else (128, 128), "pink").save(path)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="a.png"):
        read_crop(path)
