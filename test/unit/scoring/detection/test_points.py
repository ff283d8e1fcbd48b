import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mitoscope.cli import main

ROOT = Path(__file__).resolve().parents[4]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def region(tmp_path: Path) -> Path:
    """400 × 200 px of .25 µm: .1 × .05 mm."""
    Image.new("RGB", (400, 200), "white").save(tmp_path / "region.tiff", dpi=(101600, 101600))
    return tmp_path / "region.tiff"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A container's output with a point above the threshold and one below it."""
    points = [
        {"name": "mitotic figure", "point": [0.02, 0.03, 0.0], "probability": 0.9},
        {"name": "non-mitotic figure", "point": [0.09, 0.0, 0.0], "probability": 0.3},
    ]
    content = {"name": "Points of interest", "type": "Multiple points", "points": points,
               "version": {"major": 1, "minor": 0}}  # fmt: skip
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "mitotic-figures.json").write_text(json.dumps(content))
    return tmp_path / "output" / "mitotic-figures.json"


def test_a_good_output_is_ok(output: Path, region: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(output), "--region", str(region)]) == 0
    assert capsys.readouterr().out == "2 points, 1 of them called mitotic figures\nok\n"
    output.write_text(json.dumps({**json.loads(output.read_text()), "points": []}))
    assert main(["check", str(output), "--region", str(region)]) == 0


def set_first(**values: object) -> Change:
    return lambda content: content["points"][0].update(values)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (set_first(name="mitosis"), "point 1: got {"),
        (set_first(probability=1), "point 1: got probability 1, expected a float (0.0 where it is 0)"),
        (set_first(probability=1.5), "expected a probability in [0, 1]"),
        (set_first(point=[0.02, 0.03, 0]), "point 1: got [0.02, 0.03, 0], expected floats"),
        (set_first(point=[0.02, 0.03, 1.0]), "point 1: got z 1.0, expected 0.0"),
        (set_first(point=[80.0, 120.0, 0.0]), "expected mm, 10 at most: these look like pixels"),
        (set_first(point=[0.02, 0.08, 0.0]), "point 1: got y 0.08, expected 0 to 0.05 mm, as the region lies"),
        (
            set_first(probability=0.2),
            "no threshold explains the names: got a non-mitotic figure of probability 0.300000",
        ),
        (lambda content: content["points"].append(7), "point 3: got 7, expected an object with name, point and prob"),
        (lambda content: content.pop("version"), 'version: got null, expected {"major": 1, "minor": 0}'),
        (lambda content: content.update(type="Point"), 'type: got "Point", expected "Multiple points"'),
        (
            lambda content: content.update(more=1),
            'got the keys ["more"], expected none but name, type, version, points',
        ),
        (lambda content: content.update(points=None), "expected an object with a list of points"),
    ],
)
def test_each_fault_is_one_line(
    change: Change, line: str, output: Path, region: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(output.read_text())
    change(content)
    output.write_text(json.dumps(content))
    assert main(["check", str(output), "--region", str(region)]) == 1
    [fault] = [each for each in capsys.readouterr().out.splitlines() if each.startswith("wrong: ")]
    assert line in fault


def test_other_files_and_another_name_are_faults(
    output: Path, region: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = output.rename(output.with_name("points.json"))
    (output.parent / "log.txt").touch()
    assert main(["check", str(other), "--region", str(region)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "wrong: the file has the wrong name: got 'points.json', expected mitotic-figures.json"
    assert "mitotic-figures.json alone" in lines[1]


def test_a_region_that_cannot_be_read_is_one_line(
    output: Path, region: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region.write_bytes(b"nothing")
    for path in (region, region.with_name("nowhere.tiff")):
        assert main(["check", str(output), "--region", str(path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"error: the region {path.name!r} cannot be read: got ") and err.count("\n") == 1


def test_without_resolution_tags_a_pixel_is_a_millimetre(
    output: Path, region: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (400, 200)).save(region)
    assert main(["check", str(output), "--region", str(region)]) == 0
    assert main(["check", str(output), "--region", str(region), "--expected", str(output)]) == 1
    assert "--expected cannot be combined with --region" in capsys.readouterr().err


def test_the_check_imports_no_pandas() -> None:
    code = (
        "import sys, mitoscope.scoring.detection.points; assert not {'pandas', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
