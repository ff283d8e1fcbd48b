"""The page of a detector's result: what the tables say is on it, each image is in it, and it loads nothing."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mitoscope.cli import main
from mitoscope.scoring.detection.regions import Region
from mitoscope.scoring.report.outcomes import BELOW, FALSE_ALARM, FOUND, KINDS, LOOK_ALIKE, MISSED, judge_points

MPP = 0.25
HEAD = "image,x_um,y_um,x_px,y_px,p_mitosis"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 700 × 600 px, detections of the first, and a truth that also names the second."""
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        coarse = Image.fromarray(random.integers(120, 250, (12, 14, 3), np.uint8))
        coarse.resize((700, 600), Image.Resampling.BICUBIC).save(tmp_path / "images" / name)
    points = [(100, 100, 0.9), (300, 300, 0.8), (500, 200, 0.7), (105, 100, 0.3), (650, 10, 0.2)]
    rows = [f"a.png,{x * MPP},{y * MPP},{x},{y},{p}" for x, y, p in points]
    (tmp_path / "detections.csv").write_text("\n".join([HEAD, *rows]))
    truth = ["image,x_px,y_px,label,case", "a.png,104,100,mitotic figure,s1", "a.png,652,12,mitotic figure,s1"]
    truth += ["a.png,300,310,hard negative,s1", "a.png,40,500,hard negative,s1", "b.png,,,,s2"]
    (tmp_path / "truth.csv").write_text("\n".join(truth))
    return tmp_path


def make(folder: Path, *arguments: str) -> str:
    out = folder / "page.html"
    files = ["--detections", str(folder / "detections.csv"), "--threshold", "0.5", "--out", str(out)]
    assert main(["report", *files, *arguments]) == 0
    return out.read_text(encoding="utf-8")


def read_data(page: str) -> dict[str, list[object]]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    found: dict[str, list[object]] = json.loads(text)
    return found


def test_each_point_and_figure_has_one_outcome() -> None:
    points = np.array([[100.0, 100], [300, 300], [104, 100]])
    region = Region("a", points * MPP / 1000, np.array([0.9, 0.8, 0.3]), np.array([True, True, False]),
                    np.array([[104.0, 100], [700, 700], [118, 100]]) * MPP / 1000,
                    np.array([[300.0, 310]]) * MPP / 1000)  # fmt: skip
    rows = judge_points(region, points, np.array([[104.0, 100], [700, 700], [118, 100]]), np.array([[300.0, 310]]))
    assert rows["kind"].tolist() == [FOUND, FALSE_ALARM, BELOW, MISSED, MISSED, LOOK_ALIKE]
    assert rows["on_look_alike"].tolist() == [False, True, False, False, False, True]
    np.testing.assert_array_equal(rows["p"].to_numpy()[3:], [np.nan, 0.9, np.nan])


def test_the_page_shows_what_the_tables_say(folder: Path) -> None:
    page = make(folder, "--truth", str(folder / "truth.csv"), "--images", str(folder / "images"))
    data = read_data(page)
    names = [KINDS[int(str(kind))].name for kind in data["kind"]]
    assert sorted(names) == ["false alarm", "false alarm", "found", "missed"]
    assert data["p"][names.index("missed")] == 0.2  # the point below the threshold that is near
    assert [view["name"] for view in data["views"]] == ["a.png", "b.png"]  # type: ignore[index]  # c.png: nobody names it
    text = " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.partition('id="data"')[0], flags=re.DOTALL).split())
    assert "3 called in 2 images" in text
    assert "true figures that are found 1" in text
    assert "labelled look-alikes that are called 1 of 2" in text
    for secret in (str(folder), str(Path.home()), str(Path.cwd())):
        assert secret not in page


def test_images_that_were_not_searched_are_named(folder: Path) -> None:
    digest = hashlib.sha256((folder / "detections.csv").read_bytes()).hexdigest()
    record = {"csv_sha256": digest, "bundle": {"threshold": 0.5}, "images": [{"image": "a.png"}]}
    (folder / "detections.csv.json").write_text(json.dumps(record))
    page = make(folder, "--truth", str(folder / "truth.csv"), "--images", str(folder / "images"))
    assert "1 of them was not searched: all their figures count as missed" in page


def test_the_tiles_are_the_image(folder: Path) -> None:
    """Decoded and put together, the finest level differs from the file by no more than JPEG does."""
    data = read_data(make(folder, "--images", str(folder / "images" / "b.png"), str(folder / "images" / "a.png"),
                          "--zoom-mpp", "0.25"))  # fmt: skip
    view = data["views"][0]
    assert isinstance(view, dict)
    assert (view["width_px"], view["height_px"], view["scale"]) == (700, 600, [1.0, 1.0])
    assert [len(level) for level in view["levels"]] == [1, 4]
    canvas = Image.new("RGB", (700, 600))
    for number, text in enumerate(view["levels"][-1]):
        tile = Image.open(io.BytesIO(base64.b64decode(text)))
        canvas.paste(tile, (512 * (number % 2), 512 * (number // 2)))
    original = np.asarray(Image.open(folder / "images" / "a.png")).astype(int)
    assert np.abs(np.asarray(canvas).astype(int) - original).mean() < 3
    overview = Image.open(io.BytesIO(base64.b64decode(view["levels"][0][0])))
    assert overview.size == (350, 300)


def test_without_a_truth_nothing_is_called_wrong(folder: Path) -> None:
    page = make(folder, "--images", str(folder / "images"))
    data = read_data(page)
    assert data["kind"] == [0, 0, 0]
    assert [kind["name"] for kind in data["kinds"]] == ["mitotic figure", "below the threshold"]  # type: ignore[index]
    assert "False alarm" not in page.partition('id="data"')[0]


def test_the_same_input_gives_the_same_bytes(folder: Path) -> None:
    arguments = ("--truth", str(folder / "truth.csv"), "--images", str(folder / "images"))
    assert make(folder, *arguments) == make(folder, *arguments)


def test_an_image_without_any_row_is_shown_if_it_is_named(folder: Path) -> None:
    (folder / "detections.csv").write_text(HEAD + "\n")
    data = read_data(make(folder, "--images", str(folder / "images" / "c.png"), "--mpp", "0.25"))
    assert [view["name"] for view in data["views"]] == ["c.png"]  # type: ignore[index]
    assert data["crop"] == []


def test_what_does_not_fit_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detections = str(folder / "detections.csv")
    out = ["--out", str(folder / "page.html")]
    for arguments, line in (
        ([], "--detections needs --images"),
        (["--images", str(folder / "images" / "b.png")], "1 images of the tables are missing: got no a.png"),
        (["--images", str(folder / "images"), str(folder / "images" / "a.png")], "two images have the same name"),
        (["--images", str(folder / "images"), "--labels", "folders"], "--labels cannot be combined with --detections"),
    ):
        assert main(["report", "--detections", detections, *arguments, *out]) == 1
        assert line in capsys.readouterr().err
    assert main(["report", "--predictions", detections, "--truth", "t.csv", "--crops", "x", *out]) == 1
    assert "--truth cannot be combined with --predictions" in capsys.readouterr().err


def test_points_stand_where_the_detections_put_them(folder: Path) -> None:
    table = pd.read_csv(folder / "detections.csv")
    view = read_data(make(folder, "--images", str(folder / "images")))["views"][0]
    assert isinstance(view, dict)
    assert (view["x"], view["y"]) == (table["x_px"].tolist(), table["y_px"].tolist())
    assert view["scale"] == [2.0, 2.0]
