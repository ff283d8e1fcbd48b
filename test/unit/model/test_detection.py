"""The handler of Track 1, by the container's own entry."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from mitoscope.detect.detector import FLOOR, Detector
from mitoscope.errors import DeviceError, WeightsError
from mitoscope.images.slide import open_slide
from mitoscope.scoring.detection.points import check_points
from mitoscope.sockets import INPUT_SLUG, POINTS_NAME, REGION_SLUG
from mitoscope.stopwatch import Stopwatch
from model import classification, entry
from model.detection import IMAGES_FOLDER, TABLE_ROWS, encode_points

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def score(tmp_path, tiny_detector, capfd):
    """A function (case, weights, *options) → (exit code, lines of stdout, lines of stderr, the output's files)."""

    def run(case, weights=tiny_detector, *options):
        output = tmp_path / "output"
        shutil.rmtree(output, ignore_errors=True)
        arguments = ["--input", str(case), "--output", str(output), "--weights", str(weights), "--device", "cpu"]
        status = entry.main(entry.parse([*arguments, *options]))
        out, err = capfd.readouterr()
        written = {path.name: json.loads(path.read_text()) for path in output.iterdir()} if output.exists() else {}
        return status, out.splitlines(), err.splitlines(), written

    return run


@pytest.fixture
def case(make_case, region):
    folder = make_case(slug=REGION_SLUG)
    save_region(region_of(folder), region)
    return folder


def region_of(case: Path) -> Path:
    return case / IMAGES_FOLDER / "0b5a.tif"


def save_region(path: Path, pixels: np.ndarray, **options: object) -> None:
    chosen = {"tile": (128, 128), "compression": "zlib", "resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, photometric="rgb", **(chosen | options))


# ---- a good case


def test_a_case_becomes_one_file_of_points_and_six_lines(score, case, tiny_detector, tmp_path, capfd):
    status, out, err, written = score(case)
    assert (status, err, list(written)) == (0, [], [POINTS_NAME])
    content = written[POINTS_NAME]
    assert list(content) == ["name", "type", "points", "version"]
    assert (content["name"], content["type"]) == ("Points of interest", "Multiple points")
    assert content["version"] == {"major": 1, "minor": 0}
    points = content["points"]
    assert {point["name"] for point in points} == {"mitotic figure", "non-mitotic figure"}
    for point in points:
        assert list(point) == ["name", "point", "probability"]
        assert point["name"] == ("mitotic figure" if point["probability"] >= 0.5 else "non-mitotic figure")
        assert all(isinstance(each, float) for each in [*point["point"], point["probability"]])
    assert [line.split()[0] for line in out] == ["versions", "device", "bundle", "region", "points", "seconds"]
    assert out[3] == "region    '0b5a.tif': 440 x 360 px, 0.2500 x 0.2500 µm per px (tags), 0.01 mm²"
    n_called = sum(point["name"] == "mitotic figure" for point in points)
    assert out[4] == f"points    {n_called} mitotic figures, {len(points) - n_called} non-mitotic figures"
    assert out[5].split()[1::2] == ["read", "imports", "weights", "detect", "write", "total"]
    assert check_points(tmp_path / "output" / POINTS_NAME, region_of(case), weights=tiny_detector) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "ok"


@pytest.mark.parametrize(
    ("resolution", "unit"), [((40000, 43956), "CENTIMETER"), ((101600, 110000), "INCH")], ids=["cm", "inch"]
)
def test_the_places_are_those_that_simpleitk_gives(score, make_case, region, tiny_detector, resolution, unit):
    case = make_case(slug=REGION_SLUG)
    save_region(region_of(case), region, resolution=resolution, resolutionunit=unit)
    found = Detector.load(tiny_detector, device="cpu").detect(open_slide(region_of(case)))
    check_places(score(case)[3], found, region_of(case))


def test_an_mhas_places_count_from_its_origin(score, make_case, region, tiny_detector, tmp_path):
    case = make_case("socket", REGION_SLUG)
    path = case / IMAGES_FOLDER / "region.mha"
    image = sitk.GetImageFromArray(region, isVector=True)
    image.SetSpacing((0.00023, 0.00025))
    image.SetOrigin((1.5, 2.25))
    sitk.WriteImage(image, str(path), useCompression=True)
    found = Detector.load(tiny_detector, device="cpu").detect(open_slide(path))
    check_places(score(case)[3], found, path)
    assert check_points(tmp_path / "output" / POINTS_NAME, path) == 0


def check_places(written: dict, found: np.ndarray, path: Path) -> None:
    """SimpleITK's index counts from the centre of the first pixel, ours from its corner."""
    points = written[POINTS_NAME]["points"]
    image = sitk.ReadImage(str(path))
    assert len(points) == len(found) > 10
    assert [point["probability"] for point in points] == found[:, 2].tolist()
    assert min(point["probability"] for point in points) >= FLOOR
    for point, place in zip(points, found[:, :2], strict=True):
        index = np.clip(place - 0.5, 0, np.array(image.GetSize()) - 1)
        expected = image.TransformContinuousIndexToPhysicalPoint(index.tolist())
        assert point["point"][:2] == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert point["point"][2] == 0


def test_the_same_region_in_another_form_gives_the_same_points(score, make_case, region):
    results = []
    for name, options in {
        "lzw": {"compression": "lzw", "tile": None},
        "strips": {"tile": None, "rowsperstrip": 7},
    }.items():
        case = make_case("socket", REGION_SLUG, name)
        if name == "lzw":
            Image.fromarray(region).save(region_of(case), compression="tiff_lzw", dpi=(101600, 101600))
        else:
            save_region(region_of(case), region, **options)
        results.append(score(case)[3][POINTS_NAME]["points"])
    mha = make_case("interface", REGION_SLUG, "mha")
    image = sitk.GetImageFromArray(region, isVector=True)
    image.SetSpacing((0.00025, 0.00025))
    sitk.WriteImage(image, str(mha / IMAGES_FOLDER / "r.mha"))
    results.append(score(mha)[3][POINTS_NAME]["points"])
    for other in results[1:]:
        assert [point["name"] for point in other] == [point["name"] for point in results[0]]
        for a, b in zip(other, results[0], strict=True):
            assert a["point"] == pytest.approx(b["point"], abs=1e-8)
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-6)


def test_the_table_shows_the_most_probable_points(score, case, tiny_detector):
    _, out, _, written = score(case, tiny_detector, "--table")
    points = written[POINTS_NAME]["points"]
    assert len(points) > TABLE_ROWS
    head, *rows, more = out[-TABLE_ROWS - 2 :]
    assert head.split() == ["point", "name", "p_mitosis", "x_px", "y_px", "x_mm", "y_mm"]
    assert more == f"and {len(points) - TABLE_ROWS} less probable ones"
    for number, (row, point) in enumerate(zip(rows, points, strict=False), start=1):
        assert row.split()[0] == str(number)
        *_, p, x_px, _, x_mm, y_mm = row.split()
        assert [float(p), float(x_mm), float(y_mm)] == pytest.approx(
            [point["probability"], *point["point"][:2]], abs=1e-4
        )
        assert float(x_px) * 0.00025 == pytest.approx(point["point"][0] + 0.000125, abs=1e-4)


def test_blank_glass_is_a_result(score, make_case):
    case = make_case(slug=REGION_SLUG)
    save_region(region_of(case), np.full((500, 700, 3), 243, np.uint8))
    status, out, err, written = score(case)
    assert (status, err, written[POINTS_NAME]["points"]) == (0, [], [])
    assert "points    0 mitotic figures, 0 non-mitotic figures" in out


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("resolution", "found"),
    [((1, 1), "it has no resolution tags"), ((72, 72), "its tags give 352.8 x 352.8 µm per px")],
    ids=["none", "72 dpi"],
)
def test_without_a_resolution_one_is_assumed_loudly(score, make_case, region, resolution, found):
    case = make_case(slug=REGION_SLUG)
    save_region(
        region_of(case), region, resolution=resolution, resolutionunit="NONE" if resolution == (1, 1) else "INCH"
    )
    status, out, err, written = score(case)
    assert (status, err) == (0, [])
    assert (
        f"warning   0b5a.tif: {found}: 0.25 µm per px is assumed. IF THAT IS WRONG, ALL POINTS ARE WRONG: "
        "write the resolution into the file" in out
    )
    assert any("0.2500 x 0.2500 µm per px (ASSUMED)" in line for line in out)
    tagged = make_case(slug=REGION_SLUG, name="tagged")
    save_region(region_of(tagged), region)
    assert written == score(tagged)[3]  # so the evaluator takes the points


@pytest.mark.filterwarnings("always")
def test_a_grey_region_is_scored_with_a_warning(score, make_case, region):
    case = make_case(slug=REGION_SLUG)
    grey = region.mean(axis=2).astype(np.uint8)
    tifffile.imwrite(region_of(case), grey, resolution=(40000, 40000), resolutionunit="CENTIMETER")
    status, out, err, written = score(case)
    assert (status, err) == (0, [])
    assert "warning   0b5a.tif: it is greyscale: the networks were trained on H&E in colour" in out
    assert POINTS_NAME in written


def test_the_container_loads_nothing_that_it_does_not_need(case, tmp_path, tiny_detector):
    command = [
        "--input",
        str(case),
        "--output",
        str(tmp_path / "o"),
        "--weights",
        str(tiny_detector),
        "--device",
        "cpu",
    ]
    code = f"""
import sys
from model.entry import main, parse
assert main(parse({command!r})) == 0
print(*sorted(set(sys.modules) & {{"pandas", "timm", "torchvision", "SimpleITK", "skimage", "torch._dynamo"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


# ---- a bad case: refused before the weights are read


def remove_image(case):
    region_of(case).unlink()


def add_image(case):
    shutil.copy(region_of(case), case / IMAGES_FOLDER / "second.mha")


def empty(case):
    region_of(case).write_bytes(b"")


def use_16_bit(case):
    save_region(region_of(case), np.zeros((300, 300, 3), np.uint16))


def use_wide_image(case):
    save_region(region_of(case), np.full((64, 200_000, 3), 240, np.uint8))


def use_stack(case):
    tifffile.imwrite(region_of(case), np.zeros((4, 128, 128, 3), np.uint8), photometric="rgb")


def use_png(case):
    Image.new("RGB", (300, 300)).save(region_of(case).with_suffix(".png"))
    region_of(case).unlink()


def turn_mha(case):
    image = sitk.GetImageFromArray(np.zeros((300, 300, 3), np.uint8), isVector=True)
    image.SetSpacing((0.00025, 0.00025))
    image.SetDirection((0, 1, -1, 0))
    sitk.WriteImage(image, str(region_of(case).with_suffix(".mha")))
    region_of(case).unlink()


def shift_mha(case):
    image = sitk.GetImageFromArray(np.zeros((300, 300, 3), np.uint8), isVector=True)
    image.SetSpacing((0.00025, 0.00025))
    image.SetOrigin((12, 0))
    sitk.WriteImage(image, str(region_of(case).with_suffix(".mha")))
    region_of(case).unlink()


def link_outside(case):
    outside = case.parent / "elsewhere.tif"
    region_of(case).rename(outside)
    region_of(case).symlink_to(outside)


BAD_CASES = {
    remove_image: "no image in",
    add_image: "2 images in",
    empty: "a file of zero bytes",
    use_16_bit: "got 16-bit unsigned samples",
    use_wide_image: "too large for a region, or lies elsewhere: got 200,000 x 64 px, 50.00 x 0.02 mm",
    use_stack: "a stack of pages, expected one image",
    use_png: "no image in",
    turn_mha: "got TransformMatrix = ",
    shift_mha: "too large for a region, or lies elsewhere: got 300 x 300 px, 0.07 x 0.07 mm from (12, 0) mm on",
    link_outside: "is outside of the case's folder",
}


@pytest.mark.parametrize("spoil", BAD_CASES, ids=lambda spoil: spoil.__name__)
def test_a_bad_case_is_refused_in_one_line(score, case, tmp_path, spoil):
    spoil(case)
    status, _, err, written = score(case, tmp_path / "no weights here")
    assert (status, len(err), written) == (1, 1, {})
    assert BAD_CASES[spoil] in err[0]
    assert len(err[0]) < 1024


def cut_the_last_tile(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def zero_the_first_tile(path: Path) -> None:
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 60] = bytes(60)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_the_last_tile, zero_the_first_tile])
def test_a_damaged_tile_is_refused_in_one_line_and_an_older_result_stays(case, tmp_path, tiny_detector, capfd, damage):
    with tifffile.TiffFile(region_of(case)) as file:
        assert file.pages[0].dataoffsets[-1] + 40 < region_of(case).stat().st_size
    damage(region_of(case))
    output = tmp_path / "older"
    output.mkdir()
    (output / POINTS_NAME).write_text("older")
    arguments = ["--input", str(case), "--output", str(output), "--weights", str(tiny_detector), "--device", "cpu"]
    assert entry.main(entry.parse(arguments)) == 1
    *_, line = capfd.readouterr().err.splitlines()  # libtiff may write lines of its own
    assert "0b5a.tif' cannot be read as an image of tissue: got" in line
    assert [path.read_text() for path in output.iterdir()] == ["older"]


@pytest.mark.parametrize("p", [float("nan"), -1e-9, 1 + 1e-9])
def test_an_impossible_probability_is_refused(case, p):
    with pytest.raises(DeviceError, match="the probability of a point at x 0.0024 mm, y 0.0049 mm is unusable"):
        encode_points(np.array([[10, 20, p]]), open_slide(region_of(case)), (0.0, 0.0), 0.5)


# ---- the other track


def test_weights_of_the_other_track_are_refused(score, case, tiny_bundle, tiny_detector, make_case, stack, save_tiff):
    status, _, err, written = score(case, tiny_bundle)
    assert (status, len(err), written) == (1, 1, {})
    got = "got the bundle tiny of the task classify, and a case of Track 1, expected a bundle of the task detect; "
    assert err[0].startswith(f"error: the weights are for another track than the case: {got}")
    other = make_case(slug=INPUT_SLUG, name="other")
    save_tiff(other / classification.IMAGES_FOLDER / "s.tif", stack)
    status, _, err, written = score(other, tiny_detector)
    assert (status, len(err), written) == (1, 1, {})
    assert "the bundle tiny-detector of the task detect, and a case of Track 2" in err[0]


def test_a_base_is_refused(score, case, tiny_detector, tmp_path):
    status, _, err, _ = score(case, tiny_detector, "--base", str(tmp_path))
    assert status == 1
    assert "the bundle 'tiny-detector' takes no base" in err[-1]


def test_loaded_weights_serve_cases_of_their_own_track_only(case, tiny_bundle, tmp_path):
    """As in serve.py, which loads the weights before it knows a case."""
    arguments = entry.parse(
        ["--input", str(case), "--output", str(tmp_path / "o"), "--weights", str(tiny_bundle), "--device", "cpu"]
    )
    loaded = entry.load_chosen(arguments, Stopwatch())
    with pytest.raises(WeightsError, match="the weights are for another track than the case"):
        entry.run(arguments, loaded)
