"""The page of a slide in a real browser: by clicks, without a network."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from unit.detect.conftest import detector_bundle  # noqa: F401 - a fixture
from unit.slide.conftest import FIGURES, N_ATYPICAL, drawn, truth  # noqa: F401 - fixtures

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
    drawn: np.ndarray,  # noqa: F811 - the fixture
    truth: tuple[Detector, Classifier],  # noqa: F811 - the fixture
    watched: Callable[[Path], AbstractContextManager[Page]],
    tmp_path: Path,
) -> Iterator[Page]:
    options = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / HOSTILE, drawn, photometric="rgb", tile=(64, 64), **options)
    analyse(tmp_path / HOSTILE, tmp_path / "out", *truth, Settings(None, None, 0.05))
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
    expect(page.locator("#zoom-scale")).to_contain_text("µm wide")
    page.locator("#zoom-view").select_option(label="Hotspot")
    expect(page.locator("#zoom-scale")).to_contain_text("wide")
