"""Hard negatives: far from every label, in the pixels of their own image, and as prepare takes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.training.data.field_sources.layout import LabelledFields
from mitoscope.training.data.field_sources.mined import add_mined
from mitoscope.training.detect.results.mine import keep_clear, mine_tissue, place_in_original


def test_candidates_near_any_label_are_left_out() -> None:
    points = np.array([[10.0, 10, 0.9], [36, 10, 0.8], [34, 10, 0.7], [200, 200, 0.6]])
    labels = np.array([[10.0, 10], [10, 60]])
    assert keep_clear(points, labels, 25)[:, 2].tolist() == [0.8, 0.6]
    assert keep_clear(points, labels[:0], 25) is points
    assert keep_clear(points[:0], labels, 25).shape == (0, 3)


def test_a_candidate_at_the_border_lies_inside_the_original() -> None:
    """1,663 × 1,485 px of .2275 µm become 757 × 676 px of .5 µm, whose far corner would be at 1,663.7, 1,485.7."""
    field = pd.Series({"read_mpp": 0.2275, "width_px": 757, "height_px": 676})
    x, y = place_in_original(field, 0.5, 757, 676)
    assert 1660 < x <= 1663
    assert 1480 < y <= 1485
    assert place_in_original(field, 0.5, 91, 45.5) == pytest.approx((200, 100))


@pytest.fixture
def tissue(tmp_path: Path) -> Path:
    (tmp_path / "tissue").mkdir()
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "tissue" / "a.png")
    return tmp_path / "tissue"


def test_a_threshold_that_is_no_probability_is_refused(tissue: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--least cannot be used: got 1.5"):
        mine_tissue(tissue, tmp_path / "mined", None, 1.5)


def test_what_does_not_fit_is_one_line(tissue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "mined")]
    assert main(["train", "mine", "--tissue", str(tissue), "--state", "raw", *out]) == 1
    assert "--state cannot be combined with --tissue: got raw" in capsys.readouterr().err
    assert main(["train", "mine", "--study", str(tmp_path), "--mpp", "0.25", *out]) == 1
    assert "--mpp cannot be combined with --study" in capsys.readouterr().err
    assert main(["train", "mine", "--tissue", str(tmp_path / "none"), *out]) == 1
    assert "none holds no image: got no such folder" in capsys.readouterr().err


def test_mined_points_join_the_fields_that_they_were_found_in(tmp_path: Path) -> None:
    fields = pd.DataFrame({"image_id": ["A/1.png", "A/2.png"]})
    points = pd.DataFrame({"image_id": ["A/1.png"], "x_px": [5.0], "y_px": [6.0], "label": ["mitotic figure"]})
    other = LabelledFields(pd.DataFrame({"image_id": ["B/1.png"]}), points[:0])
    table = tmp_path / "truth.csv"
    table.write_text("image,x_px,y_px,label,p_mitosis\nA/2.png,7.5,8,hard negative,0.4\n")
    first, second = add_mined([LabelledFields(fields, points), other], table)
    assert first.points[["image_id", "x_px", "y_px", "label"]].to_numpy().tolist() == [
        ["A/1.png", 5.0, 6.0, "mitotic figure"],
        ["A/2.png", 7.5, 8.0, "hard negative"],
    ]
    assert second is other
    table.write_text("image,x_px,y_px,label\nC/2.png,7.5,8,hard negative\n")
    with pytest.raises(DataError, match="names fields that no data set holds: got 1 such, the first is C/2.png"):
        add_mined([other], table)
    table.write_text("image,x_px,y_px,label\nB/1.png,7.5,8,mitotic figure\n")
    with pytest.raises(DataError, match="has an unknown label"):
        add_mined([other], table)
