from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.scoring.detection.tables import FIGURE, HARD_NEGATIVE
from mitoscope.training.data.field_sources.truth import read_truth
from mitoscope.training.data.figures import prepare_figures
from mitoscope.training.data.table import read_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 300 × 240 px with dark squares at the labelled points, and their truth.csv."""
    for seed, name in enumerate("ab"):
        pixels = np.random.default_rng(seed).integers(190, 210, (240, 300, 3), dtype=np.uint8)
        for x, y in ((100, 120), (200, 90)):
            pixels[y - 4 : y + 4, x - 4 : x + 4] = 40
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    rows = ["image,x_px,y_px,label,case"]
    rows += [f"a.png,100,120,{FIGURE},s1", f"a.png,200,90,{HARD_NEGATIVE},s1"]
    rows += [f"b.png,200,90,{FIGURE},s2", f"b.png,5,5,{HARD_NEGATIVE},s2", "b.png,100,120,lymphocyte,s2"]
    (tmp_path / "truth.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_crop_is_cut_around_every_labelled_point(folder: Path, tmp_path: Path) -> None:
    prepare_figures([read_truth([folder / "truth.csv", folder])], tmp_path / "out", read_as=0.125)
    data = read_data(tmp_path / "out")
    assert data.classes == (HARD_NEGATIVE, FIGURE)
    assert data.table["label"].tolist() == [FIGURE, HARD_NEGATIVE, FIGURE, HARD_NEGATIVE]
    assert data.is_atypical.tolist() == [True, False, True, False]
    assert data.table["image_id"].iloc[0] == f"{folder.name}/a.png/100_120"
    assert data.table["case"].tolist() == ["s1", "s1", "s2", "s2"]
    for crop in data.crops[:3]:  # at .125 µm per px, 8 px are 4 of the crop
        assert crop[63:65, 63:65].max() < 80
    assert (data.crops[3][:60, :60] == 0).all()  # outside of the field


def test_one_class_alone_is_refused(folder: Path, tmp_path: Path) -> None:
    text = (folder / "truth.csv").read_text()
    (folder / "truth.csv").write_text(text.replace(HARD_NEGATIVE, "other"))
    with pytest.raises(DataError, match="expected some of mitotic figure and of hard negative"):
        prepare_figures([read_truth([folder / "truth.csv", folder])], tmp_path / "out", read_as=0.25)


def test_the_command_counts_them(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "prepare", "--figures", "--mpp", ".25", "--out", str(tmp_path / "out")]
    assert main([*command, "--truth", str(folder / "truth.csv"), str(folder)]) == 0, capsys.readouterr().err
    assert "wrote 4 crops" in capsys.readouterr().out
    assert main(command) == 1
    assert "--figures needs fields with labelled points" in capsys.readouterr().err
