"""The report in a real browser: by clicks and keys, without a network."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mitoscope.bundle.read import MANIFEST
from mitoscope.images.stain import FEATURES, measure_crops
from mitoscope.scoring.labels import LabelTable
from mitoscope.scoring.report.build import report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)")
Browser, Locator, Page, expect = sync_api.Browser, sync_api.Locator, sync_api.Page, sync_api.expect
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]
HOSTILE = "<img src=x onerror=alert(1)>.png"
# Lowest contrast of any text against the first opaque ground behind it (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [...document.querySelectorAll("body *")].filter((node) =>
    node.checkVisibility() && !node.disabled && [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()));
  return found.map((node) => {
    const style = getComputedStyle(node);
    const svg = node instanceof SVGElement;
    const [a, b] = [light(parse(svg ? style.fill : style.color)), light(ground(node))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), node.tagName + "." + node.getAttribute("class") + " " + node.textContent.trim()];
  }).sort((x, y) => x[0] - y[0])[0];
}"""


@pytest.fixture(scope="module")
def half_bundle(strict_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same networks, who see the central 64 px."""
    folder = tmp_path_factory.mktemp("bundles") / "half"
    shutil.copytree(strict_bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["input"]["crop_px"] = 64
    manifest.pop("checksum", None)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def html(scored_crops: Path, half_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    report(
        scored_crops / "predictions.csv",
        [scored_crops / "crops"],
        out,
        labels=LabelTable(scored_crops / "labels.csv"),
        weights=half_bundle,
        device="cpu",
    )
    return out


@pytest.fixture(scope="module")
def table(scored_crops: Path) -> pd.DataFrame:
    """What the page should know, computed anew."""
    table = pd.read_csv(scored_crops / "predictions.csv").merge(pd.read_csv(scored_crops / "labels.csv"))
    members = table[[f"member_{k}" for k in range(5)]]
    ordered = table["p_atypical"].sort_values().tolist()
    threshold = sum(min(((a, b) for a, b in pairwise(ordered) if a < 0.5 <= b))) / 2
    crops = np.stack([np.asarray(Image.open(scored_crops / "crops" / name)) for name in table["image_id"]])
    sharpness = measure_crops(crops)[:, FEATURES.index("sharpness")]
    return table.assign(
        unlike=sharpness > sharpness[1] - 1e-9,
        distance=(table["p_atypical"] - threshold).abs(),
        disagreement=members.max(axis=1) - members.min(axis=1),
        wrong=table["class"] != table["label"],
    )


@pytest.fixture
def page(watched: Callable[[Path], AbstractContextManager[Page]], html: Path) -> Iterator[Page]:
    with watched(html) as page:
        yield page


def field(page: Page, label: str) -> Locator:
    """A control of the form."""
    return page.get_by_role("search").get_by_label(label, exact=True)


def names(page: Page) -> list[str]:
    """The crops in view, in order."""
    found: list[str] = page.locator("#cards .name").evaluate_all("nodes => nodes.map((node) => node.title)")
    return found


def choose_order(page: Page, order: str) -> None:
    """Sort, and wait until it is drawn."""
    field(page, "Sort").select_option(order)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_every_order_is_that_of_the_table(page: Page, table: pd.DataFrame) -> None:
    graver = table.assign(grave=table["distance"].where(table["wrong"], -table["distance"]))
    orders = {
        "error": graver.sort_values(["wrong", "grave"], ascending=False),
        "p-down": table.sort_values("p_atypical", ascending=False),
        "p-up": table.sort_values("p_atypical"),
        "near": table.sort_values("distance", kind="stable"),
        "far": table.sort_values("distance", ascending=False, kind="stable"),
        "name": table.sort_values("image_id"),
        "file": table,
    }
    for order, expected in orders.items():
        choose_order(page, order)
        assert names(page) == expected["image_id"].tolist()[:60]
    spread = table.set_index("image_id")["disagreement"].round(6)  # many are equal
    for order, ascending in (("disagree", False), ("agree", True)):
        choose_order(page, order)
        assert spread[names(page)].tolist() == spread.sort_values(ascending=ascending).tolist()[:60]


def test_every_filter_leaves_what_it_says_and_the_count_is_shown(page: Page, table: pd.DataFrame) -> None:
    atypical, called = table["label"] == "atypical", table["class"] == "atypical"
    status = page.get_by_role("status")
    expect(status).to_have_text(f"All 130 crops, {table['wrong'].sum()} of them wrong")
    expect(status).to_have_attribute("aria-live", "polite")

    def check(rows: pd.Series) -> None:
        wrong = (rows & table["wrong"]).sum()
        expect(status).to_have_text(f"{rows.sum()} of 130 crops, {wrong} of them wrong")
        assert set(names(page)) <= set(table["image_id"][rows])
        assert len(names(page)) == min(60, rows.sum())
        page.get_by_role("button", name="Clear").click()
        expect(status).to_contain_text("All 130")

    for option, rows in {
        "missed": atypical & ~called,
        "false alarm": ~atypical & called,
        "wrong": table["wrong"],
        "right": ~table["wrong"],
        "true atypical": atypical & called,
        "true normal": ~atypical & ~called,
    }.items():
        field(page, "Outcome").select_option(option)
        check(rows)
    field(page, "Called").select_option("atypical")
    check(called)
    field(page, "Label").select_option("normal")
    check(~atypical)
    field(page, "Domain").select_option(label="lung")
    check(table["domain"] == "lung")
    field(page, "from").fill("0.25")
    field(page, "to").fill("0.75")
    check(table["p_atypical"].between(0.25, 0.75))
    field(page, "Distance to the threshold, at most").fill("0.1")
    check(table["distance"] <= 0.1)
    field(page, "Disagreement, at least").fill("0.5")
    check(table["disagreement"] >= 0.5)
    field(page, "Name").fill("01")
    check(table["image_id"].str.contains("01"))
    field(page, "Training data").select_option("any")
    check(table["unlike"])
    field(page, "Training data").select_option(label="sharpness")
    check(table["unlike"])
    field(page, "Training data").select_option("none")
    check(~table["unlike"])
    field(page, "Name").fill("no such crop")
    expect(status).to_have_text("No crop matches. Clear shows all")


def test_a_number_of_the_table_shows_its_crops(page: Page, table: pd.DataFrame) -> None:
    missed = table["wrong"] & (table["label"] == "atypical")
    page.get_by_role("button", name=re.compile(r"^\d+\s*missed")).click()
    expect(page.get_by_role("status")).to_have_text(f"{missed.sum()} of 130 crops, {missed.sum()} of them wrong")
    assert set(names(page)) == set(table["image_id"][missed])
    expect(field(page, "Outcome")).to_have_value("missed")


def test_pages_are_turned_and_few_crops_are_in_the_document(page: Page, table: pd.DataFrame) -> None:
    choose_order(page, "file")
    above = page.get_by_role("navigation", name="Pages of crops", exact=True)
    expect(above).to_contain_text("page 1 of 3")
    above.get_by_role("button", name="Next").click()
    above.get_by_role("button", name="Next").click()
    expect(above).to_contain_text("page 3 of 3")
    assert names(page) == table["image_id"].tolist()[120:]
    expect(above.get_by_role("button", name="Next")).to_be_disabled()
    field(page, "Name").fill("00")
    expect(above).to_contain_text("page 1 of 1")


def test_the_detail_view_by_keys(page: Page, table: pd.DataFrame) -> None:
    choose_order(page, "file")
    expect(page.locator(".card").first).to_have_accessible_name(re.compile(re.escape(HOSTILE)))
    page.locator(".card").nth(58).focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="058.png")
    expect(dialog).to_be_visible()
    expect(dialog).to_have_attribute("aria-modal", "true")
    row = table.iloc[58]
    for number in range(5):
        expect(dialog.locator("#detail-plot")).to_contain_text(f"network {number}{row[f'member_{number}']:.3f}")
    expect(dialog.locator("#detail-verdict")).to_contain_text(f"called {row['class']}, labelled {row['label']}")
    expect(dialog.locator("#detail-facts")).to_contain_text(f"domain{row['domain']}")
    expect(dialog.get_by_role("img", name="Crop 058.png")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("dialog", name="060.png")).to_contain_text("61 of 130")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    for _ in range(20):  # the focus stays inside
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".card").first).to_be_focused()  # on the page that the keys led to
    expect(page.locator(".card").first).to_have_accessible_name(re.compile("^060.png"))


def test_the_ends_of_the_list_do_not_lose_the_keys(page: Page) -> None:
    choose_order(page, "file")
    page.locator(".card").nth(1).click()
    previous = page.get_by_role("dialog").get_by_role("button", name="Previous")
    previous.click()
    expect(previous).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("dialog", name="001.png")).to_contain_text("unlike the training datasharpness")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_map_lies_on_the_square_that_the_networks_see(page: Page) -> None:
    page.locator(".card").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It was made with tiny; it is not known whether")
    image, canvas, frame = (dialog.locator(name) for name in ("#detail-image", "#detail-map", ".frame"))
    whole, side = image.bounding_box(), image.bounding_box()["width"]
    for part in (canvas, frame):  # the central 64 of 128 px
        expected = {"x": whole["x"] + side / 4, "y": whole["y"] + side / 4, "width": side / 2, "height": side / 2}
        assert part.bounding_box() == pytest.approx(expected, abs=1)
    assert canvas.evaluate(
        "node => node.getContext('2d').getImageData(0, 0, node.width, node.height).data.some(Boolean)"
    )
    slider = dialog.get_by_label("Opacity")
    slider.focus()
    name = dialog.locator("#detail-title").inner_text()
    page.keyboard.press("ArrowRight")
    assert dialog.locator("#detail-title").inner_text() == name  # the key was the slider's
    slider.fill("20")
    assert canvas.evaluate("node => getComputedStyle(node).opacity") == "0.2"
    dialog.get_by_label("Grad-CAM").uncheck()
    expect(canvas).to_be_hidden()
    page.keyboard.press("g")
    expect(canvas).to_be_visible()
    page.keyboard.press("f")
    expect(frame).to_be_hidden()


def test_markup_in_names_stays_text(page: Page) -> None:
    field(page, "Name").fill("onerror")
    expect(page.locator(".card")).to_have_count(1)
    page.locator(".card").click()
    dialog = page.get_by_role("dialog", name=HOSTILE)
    expect(dialog.get_by_role("heading")).to_have_text(HOSTILE)
    expect(dialog).to_contain_text("</script><script>alert(3)</script>")
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("script").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in_both_schemes(scheme: str, page: Page) -> None:
    page.emulate_media(color_scheme=scheme)
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where
    page.locator(".card").nth(1).click()
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where


def test_the_page_can_be_walked_without_eyes(page: Page) -> None:
    for landmark in ("banner", "main", "search", "contentinfo"):
        expect(page.get_by_role(landmark)).to_have_count(1)
    assert page.get_by_role("heading", level=1).count() == 1
    levels = [int(tag[1]) for tag in page.locator("h1, h2, h3").evaluate_all("nodes => nodes.map((n) => n.tagName)")]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for control in page.locator("input, select, button").all():
        assert control.evaluate("node => node.labels?.length || node.ariaLabel || node.textContent.trim()")
    assert page.locator("img:not([alt])").count() == 0
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the crops")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="The crops")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).outlineStyle") == "none"
    page.locator(".card").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_on_paper_the_controls_are_gone(page: Page) -> None:
    page.emulate_media(media="print")
    expect(page.locator("#filters")).to_be_hidden()
    expect(page.locator(".card").first).to_be_visible()


def test_without_saliency_labels_or_domains_their_controls_are_not_there(
    browser: Browser, scored_crops: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "plain.html"
    report(scored_crops / "predictions.csv", [scored_crops / "crops"], out, weights=tiny_bundle, saliency=False)
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(out.as_uri())
    for label in ("Outcome", "Label", "Domain", "Training data", "Grad-CAM on all"):
        assert page.get_by_label(label, exact=True).count() == 0
    page.locator(".card").first.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("made without Grad-CAM")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("g")
    expect(page.get_by_role("dialog")).to_contain_text("2 of 130")
    page.close()
    assert faults == []
