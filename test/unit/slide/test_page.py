"""What the page of a slide holds: its pictures, its points and its words."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from unit.detect.conftest import overwrite_block
from unit.slide.conftest import FIGURES, N_ATYPICAL

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.errors import InputError
from mitoscope.images.slide import Slide
from mitoscope.slide.analyse import Settings, analyse
from mitoscope.slide.counts import BELOW
from mitoscope.slide.hotspot import Rectangle
from mitoscope.slide.overview import Overview
from mitoscope.slide.report.accuracy import describe_accuracy
from mitoscope.slide.report.page import KINDS
from mitoscope.slide.report.views import (
    DAMAGED_COLOUR,
    DENSITY_COLOURS,
    DENSITY_STEPS,
    WindowSource,
    draw_density,
    list_density_key,
    paint_damaged,
)
from mitoscope.slide.tissue import Tissue

TILE_PX, DAMAGED_TILE = 128, (8, 5)  # column and row of a tile on glass


@pytest.fixture(scope="module")
def result(drawn: np.ndarray, unsure: tuple[Detector, Classifier], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a slide without levels: a tile cannot be read, atypical figures are below the threshold."""
    folder = tmp_path_factory.mktemp("page")
    tifffile.imwrite(folder / "a.tif", drawn, photometric="rgb", tile=(TILE_PX, TILE_PX), compression="zlib",
                     resolution=(40000, 40000), resolutionunit="CENTIMETER")  # fmt: skip
    column, row = DAMAGED_TILE
    overwrite_block(folder / "a.tif", row * -(-drawn.shape[1] // TILE_PX) + column)
    analyse(folder / "a.tif", folder / "out", *unsure, Settings(None, None, 0.05))
    return folder / "out"


def read_data(folder: Path) -> dict[str, Any]:
    """The data of a page's script."""
    html = (folder / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def show(view: dict[str, Any]) -> np.ndarray:
    """The finest level of a view that is small: uint8 (H, W, 3)."""
    (tile,) = view["levels"][-1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(tile))))


def test_damage_is_painted_on_a_copy_and_nothing_else_is() -> None:
    overview = Overview(np.full((2, 3, 3), 200, np.uint8), np.array([[False, True, False], [False] * 3]), 8.0)
    painted = paint_damaged(overview)
    assert tuple(painted[0, 1]) == DAMAGED_COLOUR
    assert (painted[~overview.damaged] == 200).all() and (overview.pixels == 200).all()


def test_the_page_shows_a_damaged_tile_in_grey(result: Path) -> None:
    view = read_data(result)["views"][0]
    pixels, (column, row) = show(view), DAMAGED_TILE
    x, y = ((place + 0.5) * TILE_PX / scale for place, scale in zip((column, row), view["scale"], strict=True))
    np.testing.assert_allclose(pixels[int(y), int(x)], DAMAGED_COLOUR, atol=20)  # JPEG


def test_each_card_says_what_it_is(result: Path) -> None:
    data = read_data(result)
    kinds = {(x - 0.5, y - 0.5): kind for x, y, kind in zip(data["x_px"], data["y_px"], data["kind"], strict=True)}
    assert [kinds[figure] for figure in FIGURES] == [BELOW] * N_ATYPICAL + [0] * (len(FIGURES) - N_ATYPICAL)
    assert KINDS[0].name == "normal mitotic figure" and KINDS[BELOW].name == "below the threshold"
    assert {data["p_mitosis"][number] < data["threshold_mitosis"] for number, kind in enumerate(data["kind"])
            if kind == BELOW} == {True}  # fmt: skip


def test_every_view_has_the_points_in_pixels_of_level_0_and_the_outlines_hold_them(result: Path) -> None:
    data = read_data(result)
    tissue, rectangle, circle = (np.concatenate(outline["rings"]) for outline in data["outlines"])
    counted = json.loads((result / "summary.json").read_text(encoding="utf-8"))["counts"]
    hotspot, mpp = counted["hotspot"], 0.25
    assert rectangle.min(axis=0) == pytest.approx([hotspot["left_um"] / mpp, hotspot["top_um"] / mpp], abs=0.1)
    assert np.ptp(rectangle, axis=0) * mpp == pytest.approx([1778, 1333], abs=0.1)
    assert np.ptp(circle, axis=0) * mpp == pytest.approx([2 * 868.56] * 2, rel=1e-3)
    for view in data["views"]:
        assert sorted(zip(view["x"], view["y"], strict=True)) == sorted((x + 0.5, y + 0.5) for x, y in FIGURES)
        places = np.array([view["x"], view["y"]]).T
        assert (places > tissue.min(axis=0)).all() and (places < tissue.max(axis=0)).all()
        assert (places >= view["origin"]).all()


def test_a_place_of_the_density_map_has_the_colour_of_the_key() -> None:
    """2.37 mm² around each place of a slide of 3 mm: as many figures in its middle as give 10 per mm², and none."""
    tissue = Tissue(np.ones((375, 375), bool), 8.0, (1.0, 1.0), "found", (3000.0, 3000.0))
    white, n_figures = np.full((375, 375, 3), 255, np.uint8), round(10 * 2.37)
    for points, step in ((np.full((n_figures, 2), 1500.0), 10), (np.empty((0, 2)), 0), (np.full((999, 2), 1500.0), 40)):
        found = draw_density(white, tissue, points)[187, 187]
        np.testing.assert_allclose(found, DENSITY_COLOURS[DENSITY_STEPS.index(step)], atol=4)
    key = list_density_key()
    assert [text for text, _ in key] == ["0", "2", "5", "10", "20", "40 or more"]
    assert key[0][1] == "#fff8d7"


def test_the_guide_has_the_key_of_the_density_map() -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "slides.md").read_text(encoding="utf-8")
    for (text, _), (after, _) in zip(list_density_key()[:-1], list_density_key()[1:], strict=True):
        assert re.search(rf"\b{text} [a-z -]+, {after}\b", guide), f"{text} and {after} are not in the guide's key"


def describe(task: str, *metrics: dict[str, float], fold: int | None = 0) -> str:
    return describe_accuracy(task, [{"fold": fold, "metrics": each} for each in metrics])


def test_the_page_says_how_often_the_networks_err_as_far_as_the_manifest_knows() -> None:
    known = describe("detector", {"recall": 0.667, "precision": 0.176}, {"recall": 0.429, "precision": 0.6})
    assert known == (
        "On slides that it was not trained on, each of the detector's 2 networks alone found 43 to 67 % of the mitotic "
        "figures, and 18 to 60 % of what was called a mitotic figure was one."
    )
    assert "the detector found 50 % of" in describe("detector", {"recall": 0.5, "precision": 0.5})
    half = describe("detector", {"f1_score": 0.278, "AP": 0.28}, {"f1_score": 0.5})
    assert "had an F1 score of 0.28 to 0.50" in half and "%" not in half
    balanced = describe("classifier", {"balanced_accuracy": 0.806}, {"balanced_accuracy": 0.836})
    assert "a balanced accuracy of 81 to 84 %" in balanced
    members = [{"fold": None, "metrics": {}}]
    assert describe_accuracy("detector", members, {"recall": 0.61, "precision": 0.55}) == (
        "On slides that they were not trained on, networks that were trained like the detector found 61 % of "
        "the mitotic figures, and 55 % of what was called a mitotic figure was one."
    )
    known = {"recall": 0.61, "precision": 0.55, "intervals": {"recall": [0.372, 0.688], "precision": [0.33, 0.7]}}
    sure = describe_accuracy("detector", members, known)
    assert "found 61 % (95 % interval 37 to 69 %) of" in sure and "and 55 % (95 % interval 33 to 70 %) of" in sure
    for unknown in (describe("detector", {}), describe("detector", {"f1_score": 0.5}, {}),
                    describe("detector", {"f1_score": 0.5}, fold=None)):  # fmt: skip
        assert unknown.startswith("How often the detector errs is not known") and "0.5" not in unknown


def test_a_page_says_what_its_bundles_hold_and_those_in_git_hold_some(result: Path) -> None:
    html = (result / "report.html").read_text(encoding="utf-8")
    assert "How often the detector errs is not known" in html
    assert "each of the classifier&#39;s 5 networks alone had a balanced accuracy of 50 %" in html
    root = Path(__file__).resolve().parents[3]
    for task, name in (("detector", "detector-lite"), ("classifier", "lite")):
        manifest = json.loads((root / "weights" / name / "manifest.json").read_text(encoding="utf-8"))
        said = describe_accuracy(task, manifest["members"], manifest["training"].get("out_of_fold"))
        assert said.startswith("On slides that ")


def test_an_outline_is_not_called_tissue_and_without_figures_there_are_no_shares(
    drawn: np.ndarray, unsure: tuple[Detector, Classifier], tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", drawn, photometric="rgb", tile=(TILE_PX, TILE_PX), compression="zlib",
                     resolution=(40000, 40000), resolutionunit="CENTIMETER")  # fmt: skip
    pages = []
    for name, box in (("some", (0, 0, 1000, 700)), ("none", (905, 0, 1095, 300))):
        left, top, right, bottom = box
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        polygon = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        outline = tmp_path / f"{name}.geojson"
        outline.write_text(json.dumps({"type": "FeatureCollection", "features": [polygon]}))
        analyse(tmp_path / "a.tif", tmp_path / name, *unsure, Settings(None, outline, 0.05))
        pages.append(re.sub(r"\s+", " ", (tmp_path / name / "report.html").read_text(encoding="utf-8")))
    some, none = pages
    assert "mm² of it lie in your outline; its centre: x " in some.replace("&nbsp;", " ")
    assert "mm² of your outline, glass in it included" in some.replace("&nbsp;", " ")
    assert "of it are tissue" not in some
    assert re.search(r"at the thresholds of the table below: \d+ to \d+, \d+&nbsp;% to \d+&nbsp;%", some)
    assert "All tissue, 0.0" in none and "is less than a hotspot" in none
    assert not re.search(r"at the thresholds of the table below: [^<]*%", none)


@pytest.mark.parametrize("is_gone", [False, True])
def test_pixels_that_fail_while_the_page_is_drawn_are_a_warning_and_a_lost_slide_an_error(
    drawn: np.ndarray, unsure: tuple[Detector, Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    is_gone: bool,
) -> None:  # fmt: skip
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, drawn, photometric="rgb", tile=(TILE_PX, TILE_PX), resolution=(40000, 40000),
                     resolutionunit="CENTIMETER")  # fmt: skip

    def fail(*_: object) -> Image.Image:
        if is_gone:
            path.unlink(missing_ok=True)
        raise InputError("a.tif cannot be read", got="no answer", expected="pixels", remedy="wait")

    def around(slide: Slide, window: Rectangle) -> WindowSource:
        monkeypatch.setattr(slide, "read_level_0", fail)  # from here on
        return source(slide, window)

    source = WindowSource.around
    monkeypatch.setattr(WindowSource, "around", around)
    if is_gone:
        with pytest.raises(InputError, match=r"a\.tif is gone"):
            analyse(path, tmp_path / "out", *unsure, Settings(None, None, 0.05))
        assert not (tmp_path / "out").exists()
        return
    analyse(path, tmp_path / "out", *unsure, Settings(None, None, 0.05))
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "2 parts of the hotspot&#39;s picture could not be read, and are grey there" in html  # 1,100 px, by 1,024
