import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mitoscope.errors import DataError
from mitoscope.training.data.table import read_data, write_data


@pytest.fixture
def copy(data_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data_folder, tmp_path / "copy"))


def test_writing_anew_leaves_the_crops_that_a_process_has_mapped(copy: Path) -> None:
    mapped = read_data(copy)
    before = mapped.crops[:3].copy()
    write_data(copy, mapped.table.iloc[:2], np.zeros((2, 128, 128, 3), np.uint8))
    np.testing.assert_array_equal(mapped.crops[:3], before)
    assert len(read_data(copy).table) == 2
    assert sorted(path.name for path in copy.iterdir()) == ["crops.npy", "table.csv"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no table", "no usable data"),
        ("truncated crops", "no usable data"),
        ("empty crops", "no usable data"),
        ("no case column", "lacks columns: got .'case'"),
        ("unknown label", "unknown labels: got .'mitosis'"),
        ("a row less", "crops.npy is not the table's"),
    ],
)
def test_an_unusable_folder_is_explained(copy: Path, fault: str, message: str) -> None:
    table = pd.read_csv(copy / "table.csv")
    if fault == "no table":
        (copy / "table.csv").unlink()
    elif fault == "truncated crops":
        (copy / "crops.npy").write_bytes((copy / "crops.npy").read_bytes()[:5000])
    elif fault == "empty crops":
        (copy / "crops.npy").write_bytes(b"")
    elif fault == "no case column":
        table.drop(columns="case").to_csv(copy / "table.csv", index=False)
    elif fault == "unknown label":
        table.assign(label="mitosis").to_csv(copy / "table.csv", index=False)
    else:
        table.iloc[1:].to_csv(copy / "table.csv", index=False)
    with pytest.raises(DataError, match=message):
        read_data(copy)
