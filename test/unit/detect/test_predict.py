import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from mitoscope.bundle.members import write_bundle
from mitoscope.bundle.read import read_bundle
from mitoscope.cli import main
from mitoscope.detect import predict as module
from mitoscope.detect.detector import Detector
from mitoscope.images.slide import Slide
from mitoscope.networks.build import build_detector

ROOT = Path(__file__).resolve().parents[3]
MEMORY_BYTES = 1_500_000_000
POINTS = np.array([[300.5, 260.25, 0.9], [10, 20, 0.5], [200, 100, 0.06]])


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """A TIFF of .25 µm per px."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 340, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", resolution=(40000, 40000), resolutionunit=3)
    return tmp_path / "a.tif"


@pytest.fixture
def given_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks find `POINTS` in every image."""

    def detect(self: Detector, slide: Slide, *, floor: float, update: Callable[[int], object]) -> np.ndarray:
        return POINTS[POINTS[:, 2] >= floor]

    monkeypatch.setattr(Detector, "detect", detect)


def run(*arguments: object) -> int:
    return main(["detect", *map(str, arguments), "--device", "cpu"])


@pytest.mark.usefixtures("given_points")
def test_points_become_a_table_and_objects_of_qupath(field: Path, detector_bundle: Path, tmp_path: Path) -> None:
    assert run(field, "--weights", detector_bundle, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "detections.csv").read_text() == (
        "image,x_um,y_um,x_px,y_px,p_mitosis\n"
        "a.tif,75.125,65.062,300.50,260.25,0.900000\n"
        "a.tif,2.500,5.000,10.00,20.00,0.500000\n"
        "a.tif,50.000,25.000,200.00,100.00,0.060000\n"
    )
    collection = json.loads((tmp_path / "out" / "a.tif.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    first, second, last = collection["features"]
    assert first["type"] == "Feature" and len({each["id"] for each in collection["features"]}) == 3
    assert first["geometry"] == {"type": "Point", "coordinates": [300.5, 260.25]}
    assert first["properties"]["objectType"] == "annotation"
    assert first["properties"]["measurements"] == {"p_mitosis": 0.9}
    names = [each["properties"]["classification"]["name"] for each in (first, second, last)]
    assert names == ["mitotic figure", "mitotic figure", "non-mitotic figure"]
    record = json.loads((tmp_path / "out" / "detections.csv.json").read_text())
    (image,) = record["images"]
    assert (image["mpp"], image["notes"]) == ({"x": 0.25, "y": 0.25, "source": "tags"}, [])
    assert (image["n_points"], image["n_mitotic_figures"], record["bundle"]["name"]) == (3, 2, "tiny-detector")


@pytest.mark.usefixtures("given_points")
def test_what_is_assumed_is_said_and_recorded(
    detector_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (320, 300), "pink").save(tmp_path / "b.png")
    options = ("--weights", detector_bundle, "--out", tmp_path / "out")
    assert run(tmp_path / "b.png", *options) == 0
    note = "it has no resolution tags: 0.25 µm per px is assumed; name the right one with --mpp"
    assert capsys.readouterr().err == f"warning: b.png: {note}\n"
    (image,) = json.loads((tmp_path / "out" / "detections.csv.json").read_text())["images"]
    assert (image["mpp"]["source"], image["notes"]) == ("assumed", [note])
    assert run(tmp_path / "b.png", *options, "--mpp", 0.5, "--floor", 0.5) == 0
    assert capsys.readouterr().err == ""
    rows = list(csv.DictReader((tmp_path / "out" / "detections.csv").read_text().splitlines()))
    assert [(row["x_um"], row["x_px"]) for row in rows] == [("150.250", "300.50"), ("5.000", "10.00")]


def test_an_image_without_figures_is_a_result(detector_bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (600, 500), (244, 243, 245)).save(tmp_path / "glass.png", dpi=(101600, 101600))
    assert run(tmp_path / "glass.png", "--weights", detector_bundle, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "detections.csv").read_text() == "image,x_um,y_um,x_px,y_px,p_mitosis\n"
    assert json.loads((tmp_path / "out" / "glass.png.geojson").read_text())["features"] == []


def test_the_networks_are_run(field: Path, detector_bundle: Path, tmp_path: Path) -> None:
    results = []
    for tta in ([], [], ["--tta"]):
        assert run(field, "--weights", detector_bundle, "--floor", "0.001", *tta, "--out", tmp_path / "out") == 0
        results.append((tmp_path / "out" / "detections.csv").read_bytes())
    assert results[0] == results[1] != results[2]
    assert results[0].count(b"\n") > 1


@pytest.mark.parametrize(
    ("images", "options", "line"),
    [
        (["a.tif", "x/a.tif"], [], "error: two images have the same name: got a.tif"),
        (["a.tif"], ["--floor", "0"], "error: --floor cannot be used: got 0.0, expected above 0"),
        (["a.tif"], ["--mpp", "25"], "error: --mpp cannot be used: got 25, expected 0.05 to 5.0 µm per px"),
        (["a.tif"], ["--mpp", "3"], "cannot be resampled to 0.25 µm per px: got 3 x 3 µm per px (given)"),
        (["a.tif", "deep.tif"], [], "'deep.tif' cannot be read as an image of tissue: got 16-bit unsigned samples"),
        (
            ["a.tif", "no.tif"],
            [],
            "error: 'no.tif' cannot be read as an image of tissue: got no such file, expected a file",
        ),
        (["a.tif", "."], [], "error: '.' cannot be read as an image of tissue: got a folder, expected a file"),
        (["a.tif"], ["--weights", "nowhere"], "error: no bundle in 'nowhere'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_no_file(
    images: list[str], options: list[str], line: str, field: Path, detector_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("deep.tif", np.zeros((40, 40, 3), np.uint16), photometric="rgb")
    assert run(*images, "--weights", detector_bundle, *options, "--out", "out") == 1
    err = [each for each in capsys.readouterr().err.splitlines() if not each.startswith("warning: ")]
    assert len(err) == 1 and line in err[0]
    assert not Path("out").exists()


def test_nothing_is_written_after_damage_in_the_middle(
    field: Path, detector_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with field.open("r+b") as opened:
        opened.truncate(field.stat().st_size - 5000)  # the pixels come last
    assert run(field, "--weights", detector_bundle, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_default_weights_are_the_detectors(monkeypatch: pytest.MonkeyPatch, detector_bundle: Path) -> None:
    monkeypatch.setattr("mitoscope.detect.detector.DEFAULTS", (Path("nowhere"), detector_bundle))
    assert Detector.load(device="cpu").bundle.name == "tiny-detector"
    assert module.FLOOR == 0.05  # as the command's help says


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param({"tile": (256, 256), "compression": "zlib"}, marks=pytest.mark.slow),
        pytest.param({"rowsperstrip": 5000}, marks=pytest.mark.long),
        pytest.param("png", marks=pytest.mark.long),
    ],
)
def test_a_region_of_2_mm2_needs_little_memory(tmp_path: Path, detector_bundle: Path, layout: dict | str) -> None:
    torch.manual_seed(0)
    tiny = read_bundle(detector_bundle)
    bundle = replace(tiny, folder=tmp_path / "s", architecture="rtmdet_s", members=tiny.members[:1],
                     input=replace(tiny.input, size_px=1024))  # fmt: skip
    write_bundle(bundle, [build_detector("rtmdet_s", 1).state_dict()])
    pixels = np.full((5000, 7000, 3), 243, np.uint8)
    pixels[1500:2500, 3000:4500] = np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), np.uint8)
    path = tmp_path / ("r.png" if layout == "png" else "r.tif")
    if isinstance(layout, dict):
        tifffile.imwrite(path, pixels, photometric="rgb", resolution=(40000, 40000), resolutionunit=3, **layout)
    else:
        Image.fromarray(pixels).save(path, dpi=(101600, 101600))
    code = "import sys; from mitoscope.cli import main; assert main(sys.argv[1:]) == 0; "
    code += (
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"  # kB; ru_maxrss has the parent's
    )
    arguments = ["detect", path, "--weights", bundle.folder, "--out", tmp_path / "out", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, env={**os.environ},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert int(done.stdout.splitlines()[-1]) * 1024 < MEMORY_BYTES
    assert (tmp_path / "out" / "detections.csv").is_file()
