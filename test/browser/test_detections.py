"""The page of a detector's result in a real browser: by clicks, without a network."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitoscope.scoring.report.detections import report_detections

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)")
Page, expect = sync_api.Page, sync_api.expect
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images; one figure is found, one missed, and there is a false alarm in each image."""
    folder, random = tmp_path_factory.mktemp("detections"), np.random.default_rng(0)
    for name in ("a.png", HOSTILE):
        coarse = Image.fromarray(random.integers(120, 250, (12, 14, 3), np.uint8))
        coarse.resize((1400, 1200), Image.Resampling.BICUBIC).save(folder / name)
    points = [("a.png", 400, 400, 0.9), ("a.png", 900, 300, 0.8), (HOSTILE, 700, 600, 0.7), ("a.png", 200, 900, 0.1)]
    rows = [f"{name},{x * 0.25},{y * 0.25},{x},{y},{p}" for name, x, y, p in points]
    (folder / "detections.csv").write_text("\n".join(["image,x_um,y_um,x_px,y_px,p_mitosis", *rows]))
    (folder / "truth.csv").write_text(
        "image,x_px,y_px,label\na.png,405,400,mitotic figure\na.png,205,900,mitotic figure\n"
    )
    out = folder / "page.html"
    report_detections(folder / "detections.csv", [folder], out, truth=folder / "truth.csv", threshold=0.5)
    return out


@pytest.fixture
def page(watched: Callable[[Path], AbstractContextManager[Page]], html: Path) -> Iterator[Page]:
    with watched(html) as page:
        yield page


def test_crops_lead_to_their_places_and_points_tell_what_they_are(page: Page) -> None:
    expect(page.locator("#count")).to_have_text("All 4 crops")
    expect(page.locator("#zoom-scale")).to_contain_text("wide")
    page.locator("#by-kind").select_option(label="missed")
    expect(page.locator("#count")).to_have_text("1 of 4 crops")
    page.locator("#cards button").first.click()
    expect(page.locator("#zoom-scale")).to_contain_text("µm wide")
    page.wait_for_timeout(1000)  # the view moves
    box = page.locator("#zoom-image").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#zoom-point")).to_have_text("missed: probability 0.100")


def test_another_image_is_shown_when_its_crop_is_clicked(page: Page) -> None:
    page.locator("#by-view").select_option(label=HOSTILE)
    expect(page.locator("#count")).to_have_text("1 of 4 crops")
    page.locator("#cards button").first.click()
    expect(page.locator("#zoom-view option:checked")).to_have_text(HOSTILE)


def test_kinds_of_points_can_be_hidden(page: Page) -> None:
    page.locator("#zoom-view").select_option(label="a.png")
    expect(page.locator("#zoom-scale")).to_contain_text("wide")
    page.wait_for_timeout(500)
    drawn = [page.evaluate("document.querySelector('.marks').toDataURL()")]
    for name in ("found", "missed", "false alarm"):
        page.get_by_label(name, exact=True).uncheck()
        drawn.append(page.evaluate("document.querySelector('.marks').toDataURL()"))
    assert len(set(drawn)) == 4
    page.get_by_label("labelled look-alike", exact=True).check()  # there is none
    assert page.evaluate("document.querySelector('.marks').toDataURL()") == drawn[-1]
