"""The page of a slide in a real browser: by clicks, without a network."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from unit.detect.conftest import detector_bundle  # noqa: F401 - a fixture
from unit.slide.conftest import FIGURES, N_ATYPICAL, drawn, truth, unsure  # noqa: F401 - fixtures

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.slide.analyse import Settings, analyse

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)")
Page, expect = sync_api.Page, sync_api.expect
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]
HOSTILE = "<img src=x onerror=alert(1)>.tif"


@pytest.fixture
def page(
    request: pytest.FixtureRequest,
    drawn: np.ndarray,  # noqa: F811 - the fixture
    watched: Callable[[Path], AbstractContextManager[Page]],
    tmp_path: Path,
) -> Iterator[Page]:
    """The page of the drawn slide, by the networks that a test names, or by `truth`."""
    networks: tuple[Detector, Classifier] = request.getfixturevalue(getattr(request, "param", "truth"))
    options = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / HOSTILE, drawn, photometric="rgb", tile=(64, 64), **options)
    analyse(tmp_path / HOSTILE, tmp_path / "out", *networks, Settings(None, None, 0.05))
    with watched(tmp_path / "out" / "report.html") as page:
        yield page


def test_the_counts_the_slide_and_the_cards(page: Page) -> None:
    expect(page.locator(".notice").first).to_have_text("Not for clinical use")
    values = page.locator("ul.tiles .value")
    expect(values).to_have_text([str(len(FIGURES)), str(N_ATYPICAL), str(len(FIGURES)), str(N_ATYPICAL)])
    expect(page.locator("#count")).to_have_text(f"All {len(FIGURES)} crops")
    expect(page.locator("#zoom-scale")).to_contain_text("wide")
    names = page.locator("#zoom-view option").all_text_contents()
    assert names == ["Whole slide", "Density of the mitotic figures", "Hotspot"]
    before = page.evaluate("document.querySelector('.marks').toDataURL()")
    page.get_by_label("atypical mitotic figure", exact=True).uncheck()
    assert page.evaluate("document.querySelector('.marks').toDataURL()") != before
    page.locator("#cards button").first.click()
    page.locator("#detail-find").click()  # the card leads to its place
    page.wait_for_timeout(1000)  # the view moves
    close = page.locator("#zoom-scale").text_content()
    assert close is not None and "µm wide" in close
    page.locator("#zoom-view").select_option(label="Hotspot")
    page.wait_for_timeout(1000)
    expect(page.locator("#zoom-scale")).to_have_text(close)  # another image of the same place


@pytest.fixture
def coarse_overview(monkeypatch: pytest.MonkeyPatch) -> None:
    """The overview is coarser than the hotspot's view, as on a real slide."""
    monkeypatch.setattr("mitoscope.slide.overview.SIDE_PX", 300)


@pytest.mark.usefixtures("coarse_overview")
def test_a_card_leads_to_the_sharpest_image_of_its_place(page: Page) -> None:
    view = page.locator("#zoom-view")
    expect(view.locator("option:checked")).to_have_text("Whole slide")
    page.locator("#cards button").first.click()
    page.locator("#detail-find").click()
    expect(view.locator("option:checked")).to_have_text("Hotspot")


COUNT_YELLOW = """() => {
  const marks = document.querySelector(".marks");
  const copy = new OffscreenCanvas(marks.width, marks.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(marks, 0, 0);
  const { data } = copy.getImageData(0, 0, marks.width, marks.height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    count += data[at] > 225 && data[at + 1] > 165 && data[at + 2] < 20 && data[at + 3] > 200;
  }
  return count;
}"""


def test_the_hotspots_view_shows_the_outlines_and_so_do_the_others(page: Page) -> None:
    expect(page.locator("#zoom-scale")).to_contain_text("wide")
    for name in page.locator("#zoom-view option").all_text_contents():
        page.locator("#zoom-view").select_option(label=name)
        page.wait_for_timeout(1000)  # the view moves
        assert page.evaluate(COUNT_YELLOW) > 100, name


@pytest.mark.parametrize("page", ["unsure"], indirect=True)
def test_a_point_below_the_threshold_is_named_so_and_shown_on_the_slide(page: Page) -> None:
    expect(page.locator("#count")).to_have_text(f"{len(FIGURES) - N_ATYPICAL} of {len(FIGURES)} crops")
    expect(page.locator("#cards .what").first).to_have_text("normal mitotic figure")
    page.locator("#by-kind").select_option(label="below the threshold")
    expect(page.locator("#cards .what")).to_have_text(["below the threshold"] * N_ATYPICAL)
    expect(page.locator("#cards button").first).to_contain_text("P(mitosis)0.476P(atypical)")
    box = page.get_by_label("below the threshold", exact=True)
    expect(box).not_to_be_checked()
    page.locator("#cards button").first.click()
    expect(page.locator("#detail-verdict")).to_have_text("below the threshold")
    page.locator("#detail-find").click()
    expect(box).to_be_checked()
    page.wait_for_timeout(1000)  # the view moves
    page.locator("#by-kind").evaluate(
        "select => { select.value = 'mitotic'; select.dispatchEvent(new Event('input', { bubbles: true })); }"
    )  # the filters hide its card
    place = page.locator("#zoom-image").bounding_box()
    assert place is not None
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    expect(page.locator("#zoom-point")).to_contain_text("P(mitosis) 0.476")
    expect(page.locator("#detail-verdict")).to_have_text("below the threshold")  # a click opens the card all the same
    expect(page.locator("#detail-facts")).to_contain_text("lies in it, not counted")
