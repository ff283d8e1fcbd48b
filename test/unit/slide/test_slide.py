"""A drawn slide with known figures, through everything but the networks, which are replaced by truth."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from unit.detect.conftest import overwrite_block
from unit.slide.conftest import FIGURES, N_ATYPICAL

from mitoscope.classify.classifier import Classifier
from mitoscope.cli import main
from mitoscope.detect.detector import Detector
from mitoscope.detect.tiles import Tile
from mitoscope.errors import InputError
from mitoscope.images.slide import Slide
from mitoscope.images.tiff_source import TiffSource
from mitoscope.slide import analyse as analyse_module
from mitoscope.slide import figures as figures_module
from mitoscope.slide import run as module
from mitoscope.slide.analyse import Settings, analyse
from mitoscope.slide.counts import choose_floor
from mitoscope.slide.journal import Journal
from mitoscope.slide.overview import Overview
from mitoscope.slide.run import FAILED_CODE, run_slides

CM = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}  # .25 µm per px
SETTINGS = Settings(None, None, 0.05)
Truth = tuple[Detector, Classifier]


def write_pyramid(path: Path, pixels: np.ndarray, **options: object) -> None:
    with tifffile.TiffWriter(path) as writer:
        for level in range(3):
            size = 40000 / 2**level
            smaller = pixels[:: 2**level, :: 2**level]
            writer.write(smaller, photometric="rgb", tile=(128, 128), subfiletype=int(level > 0),
                         resolution=(size, size), resolutionunit="CENTIMETER", **options)  # fmt: skip


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "detections.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def slide(tmp_path: Path, drawn: np.ndarray) -> Path:
    write_pyramid(tmp_path / "a.tif", drawn)
    return tmp_path / "a.tif"


def test_the_counts_of_a_drawn_slide_are_met_exactly(slide: Path, truth: Truth, tmp_path: Path) -> None:
    summary = analyse(slide, tmp_path / "out" / "a.tif", *truth, SETTINGS)
    folder = tmp_path / "out" / "a.tif"
    assert sorted(path.name for path in folder.iterdir()) == [
        "detections.csv", "qupath.geojson", "report.html", "summary.json"]  # fmt: skip
    counts = summary["counts"]
    assert counts["n_mitotic_figures"] == len(FIGURES)  # the one on glass is not counted
    assert counts["atypical"]["n_atypical"] == N_ATYPICAL
    assert counts["atypical"]["share"] == pytest.approx(N_ATYPICAL / len(FIGURES))
    assert counts["atypical"]["interval"] == pytest.approx([0.138, 0.609], abs=1e-3)  # Wilson, 4 of 12
    assert counts["hotspot"]["n_figures"] == counts["hotspot_circle"]["n_figures"] == len(FIGURES)
    drawn_mm2 = 860 * 680 * 0.25**2 / 1e6
    assert counts["tissue_mm2"] == pytest.approx(drawn_mm2, rel=0.12)  # cells of 32 px
    assert any("is less than a hotspot of 2.37 mm²" in text for text in summary["warnings"])
    rows = read_rows(folder)
    assert sorted((float(row["x_px"]), float(row["y_px"])) for row in rows) == sorted(
        (x + 0.5, y + 0.5) for x, y in FIGURES
    )
    kinds = {(float(row["x_px"]) - 0.5, float(row["y_px"]) - 0.5): row["class"] for row in rows}
    assert [kinds[figure] for figure in FIGURES] == ["atypical"] * N_ATYPICAL + ["normal"] * (len(FIGURES) - N_ATYPICAL)
    stored = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert stored["not_for"] == "clinical use" and len(stored["sensitivity"]) == 9
    assert {stored[task]["name"] for task in ("detector", "classifier")} == {"tiny-detector", "tiny"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Not for clinical use" in page and page.count("http-equiv") == 1
    assert not (tmp_path / "out" / ".a.tif.work").exists()


def test_pyramid_flat_tiff_and_png_give_the_same_figures(
    slide: Path, drawn: np.ndarray, truth: Truth, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "flat.tif", drawn, photometric="rgb", rowsperstrip=16, **CM)
    Image.fromarray(drawn).save(tmp_path / "field.png", dpi=(101600, 101600))
    found = []
    for path in (slide, tmp_path / "flat.tif", tmp_path / "field.png"):
        analyse(path, tmp_path / "out" / path.name, *truth, SETTINGS)
        found.append([{**row, "image": ""} for row in read_rows(tmp_path / "out" / path.name)])
    for others in found[1:]:
        assert len(others) == len(FIGURES)
        for row, other in zip(sorted(found[0], key=str), sorted(others, key=str), strict=True):
            for name in row.keys() - {"x_um", "y_um"}:  # the tags of PNG are whole dots per metre
                assert row[name] == other[name]


@pytest.mark.parametrize("shift", [(0, 0), (7, 3), (61, 90), (127, 64)])
def test_the_same_figures_wherever_the_grid_lies(
    drawn: np.ndarray, truth: Truth, tmp_path: Path, shift: tuple[int, int]
) -> None:
    x, y = shift
    moved = np.pad(drawn, ((y, 0), (x, 0), (0, 0)), constant_values=243)
    tifffile.imwrite(tmp_path / "moved.tif", moved, photometric="rgb", tile=(64, 64), **CM)
    analyse(tmp_path / "moved.tif", tmp_path / "out", *truth, SETTINGS)
    places = sorted((float(row["x_px"]) - x - 0.5, float(row["y_px"]) - y - 0.5) for row in read_rows(tmp_path / "out"))
    assert places == sorted(FIGURES)


def damage(path: Path, x_px: int, y_px: int) -> None:
    """Overwrite the tile of level 0 that holds a pixel."""
    overwrite_block(path, (y_px // 128) * (-(-1100 // 128)) + x_px // 128)


def test_a_broken_tile_is_named_and_counted(slide: Path, drawn: np.ndarray, truth: Truth, tmp_path: Path) -> None:
    write_pyramid(slide, drawn, compression="zlib")
    damage(slide, 330, 610)  # a figure
    summary = analyse(slide, tmp_path / "out", *truth, SETTINGS)
    tiles = summary["tiles"]
    assert 0 < tiles["n_unread"] < tiles["n_with_tissue"]
    assert all(fault["reason"] and fault["tissue_mm2"] > 0 for fault in tiles["unread"])
    assert any("could not be read: figures in" in text for text in summary["warnings"])
    assert 0 < summary["counts"]["n_mitotic_figures"] < len(FIGURES)


@pytest.mark.parametrize("place", [(330, 610), (1090, 740)], ids=["a figure", "glass"])
def test_a_broken_tile_of_a_slide_without_levels_is_named_too(
    drawn: np.ndarray, truth: Truth, tmp_path: Path, place: tuple[int, int]
) -> None:
    """The overview is read from the same pixels. Nobody knows what they showed, so they count as tissue."""
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, drawn, photometric="rgb", tile=(128, 128), compression="zlib", **CM)
    whole = analyse(path, tmp_path / "whole", *truth, SETTINGS)["counts"]
    damage(path, *place)
    summary = analyse(path, tmp_path / "out", *truth, SETTINGS)
    (name, *others) = [fault for fault in summary["tiles"]["unread"] if inside(fault, *place)]
    assert not others and name["tissue_mm2"] > 0
    lost = [figure for figure in FIGURES if any(inside(fault, *figure) for fault in summary["tiles"]["unread"])]
    assert (place in lost) == (place in FIGURES)
    assert summary["counts"]["n_mitotic_figures"] == whole["n_mitotic_figures"] - len(lost)


def inside(fault: dict[str, float], x_px: int, y_px: int) -> bool:
    left, top = fault["x_px"], fault["y_px"]
    return left <= x_px < left + fault["width_px"] and top <= y_px < top + fault["height_px"]


def test_an_overview_that_could_not_be_read_is_named_and_read_again(
    slide: Path, drawn: np.ndarray, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(slide, drawn, photometric="rgb", tile=(128, 128), **CM)
    whole = analyse(slide, tmp_path / "whole", *truth, SETTINGS)
    assert whole["overview_unread_mm2"] == 0
    read, read_overview = TiffSource.read_block, analyse_module.read_overview

    def fail_on_the_right(self: TiffSource, column: int, row: int) -> Image.Image:
        if column == 8:  # glass
            raise OSError("the network has a hiccup")
        return read(self, column, row)

    def read_badly(slide: Slide) -> Overview:
        with monkeypatch.context() as hiccup:
            hiccup.setattr(TiffSource, "read_block", fail_on_the_right)
            return read_overview(slide)

    monkeypatch.setattr(analyse_module, "read_overview", read_badly)
    summary = analyse(slide, tmp_path / "out", *truth, SETTINGS)
    assert summary["tiles"]["n_unread"] == 0 and summary["overview_unread_mm2"] > 0
    assert any("of the overview could not be read" in text for text in summary["warnings"])
    monkeypatch.setattr(analyse_module, "read_overview", read_overview)
    again = analyse(slide, tmp_path / "out", *truth, SETTINGS)
    assert not again["was_finished"] and again["counts"] == whole["counts"]


def test_a_smaller_level_that_is_damaged_is_not_needed(
    slide: Path, drawn: np.ndarray, truth: Truth, tmp_path: Path
) -> None:
    write_pyramid(slide, drawn, compression="zlib")
    whole = analyse(slide, tmp_path / "whole", *truth, SETTINGS)["counts"]
    overwrite_block(slide, 0, level=2)
    summary = analyse(slide, tmp_path / "out", *truth, SETTINGS)
    assert summary["tiles"]["n_unread"] == 0
    assert summary["counts"]["n_mitotic_figures"] == whole["n_mitotic_figures"]
    assert summary["counts"]["tissue_mm2"] == pytest.approx(whole["tissue_mm2"], rel=0.03)


def test_what_could_not_be_read_is_read_again_and_nothing_else(
    slide: Path, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, scanned, crops = Detector.read, list[tuple[int, int]](), list[object]()
    read_crop = figures_module.read_crop

    def count(self: Detector, of: Slide, tile: Tile) -> np.ndarray:
        scanned.append((tile.x.start, tile.y.start))
        return read(self, of, tile)

    def count_crop(*place: Any) -> np.ndarray | None:
        crops.append(place)
        return read_crop(*place)

    def fail(self: Detector, of: Slide, tile: Tile) -> np.ndarray:
        if (tile.x.start, tile.y.start) == (0, 0):
            scanned.append((0, 0))
            raise InputError("no answer", got="a network that is down", expected="pixels", remedy="wait")
        return read(self, of, tile)

    with monkeypatch.context() as patched:
        patched.setattr(Detector, "read", fail)
        for _ in range(2):
            scanned.clear()
            partial = analyse(slide, tmp_path / "out", *truth, SETTINGS)
            assert partial["tiles"]["n_unread"] == 1 and not partial["was_finished"]
        assert scanned == [(0, 0)]
    scanned.clear()
    monkeypatch.setattr(Detector, "read", count)
    monkeypatch.setattr(figures_module, "read_crop", count_crop)
    summary = analyse(slide, tmp_path / "out", *truth, SETTINGS)
    assert not summary["was_finished"]
    assert summary["tiles"]["n_unread"] == 0
    assert scanned == [(0, 0)]
    assert len(crops) == summary["n_points"] - partial["n_points"] > 0
    analyse(slide, tmp_path / "fresh", *truth, SETTINGS)
    for name in ("detections.csv", "qupath.geojson"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    assert {path.name for path in (tmp_path / "out").parent.glob(".*.work")} == set()


def test_a_slide_that_vanishes_while_figures_are_classified_is_no_result(
    slide: Path, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Slide.read

    def vanish(self: Slide, x: int, y: int, width: int, *others: Any) -> np.ndarray:
        if width == 128:  # a crop
            slide.unlink(missing_ok=True)
            raise InputError("a.tif cannot be read", got="no such file", expected="pixels", remedy="copy it again")
        return read(self, x, y, width, *others)

    monkeypatch.setattr(Slide, "read", vanish)
    with pytest.raises(InputError, match="a.tif is gone"):
        analyse(slide, tmp_path / "out", *truth, SETTINGS)
    assert not (tmp_path / "out").exists()


def test_the_slides_own_file_is_not_taken_for_its_folder(
    slide: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(slide.parent)
    before = slide.read_bytes()
    assert main(["slide", slide.name, "--out", "."]) == 1
    assert "the results cannot be written: got a file at a.tif, where a folder would be" in capsys.readouterr().err
    assert slide.read_bytes() == before


def test_a_floor_that_hides_mitotic_figures_is_refused(slide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slide", str(slide), "--out", str(slide.parent / "out"), "--floor", "0.6"]) == 1
    assert "--floor cannot be used: got 0.6, expected at most the threshold of" in capsys.readouterr().err


def test_points_are_classified_down_to_the_lowest_threshold_of_the_table(
    slide: Path, detector_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    given = ["--detector", str(detector_bundle), "--classifier", str(tiny_bundle), "--device", "cpu"]
    assert main(["slide", str(slide), "--out", str(tmp_path / "out"), *given]) == 0
    threshold = json.loads((detector_bundle / "manifest.json").read_text())["threshold"]["value"]
    assert json.loads((tmp_path / "out" / "a.tif" / "summary.json").read_text())["floor"] == choose_floor(threshold)


def test_slides_take_bf16_where_the_processor_has_it_and_the_weights_allow_it(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for native, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        assert run_slides([slide], tmp_path / expected, device="cpu") == 0
        summary = json.loads((tmp_path / expected / "a.tif" / "summary.json").read_text())
        assert summary["mark"]["precision"] == ["cpu", expected, expected]


def test_an_image_of_which_nothing_can_be_read_is_refused(truth: Truth, tmp_path: Path) -> None:
    flat = tmp_path / "flat.tif"
    tifffile.imwrite(flat, np.zeros((128, 128, 3), np.uint8), photometric="rgb", compression="zlib", **CM)
    overwrite_block(flat, 0)
    with pytest.raises(InputError, match="cannot be read as an image of tissue"):
        analyse(flat, tmp_path / "out", *truth, SETTINGS)


def test_a_slide_that_was_broken_off_goes_on_and_a_finished_one_is_skipped(
    slide: Path, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse(slide, tmp_path / "whole", *truth, SETTINGS)
    add, n_added = Journal.add, 0

    def break_off(self: Journal, name: str, part: object) -> None:
        nonlocal n_added
        n_added += 1
        if n_added % 8 == 0:
            self._file.write(b'["half a li')
            self._file.flush()
            raise KeyboardInterrupt
        add(self, name, part)

    monkeypatch.setattr(Journal, "add", break_off)
    n_broken = 0
    while not (tmp_path / "broken").exists():
        try:
            assert not analyse(slide, tmp_path / "broken", *truth, SETTINGS)["was_finished"]
        except KeyboardInterrupt:
            n_broken += 1
    monkeypatch.setattr(Journal, "add", add)
    assert n_broken >= 3
    for name in ("detections.csv", "qupath.geojson"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()
    assert analyse(slide, tmp_path / "broken", *truth, SETTINGS)["was_finished"]
    assert not analyse(slide, tmp_path / "broken", *truth, Settings(None, None, 0.06))["was_finished"]
    (tmp_path / "broken" / "report.html").unlink()
    assert not analyse(slide, tmp_path / "broken", *truth, Settings(None, None, 0.06))["was_finished"]
    monkeypatch.setattr("mitoscope.slide.analyse.hash_code", lambda: "0" * 64)  # other code
    assert not analyse(slide, tmp_path / "broken", *truth, Settings(None, None, 0.06))["was_finished"]
    assert analyse(slide, tmp_path / "broken", *truth, Settings(None, None, 0.06))["was_finished"]


def test_one_bad_slide_is_a_row_with_its_reason(
    slide: Path, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module.Detector, "load", lambda *_, **__: truth[0])
    monkeypatch.setattr(module.Classifier, "load", lambda *_, **__: truth[1])
    (tmp_path / "bad.svs").write_bytes(b"no slide at all")
    Image.fromarray(np.full((300, 300, 3), 243, np.uint8)).save(tmp_path / "glass.png", dpi=(101600, 101600))
    Image.fromarray(np.full((300, 300, 3), 243, np.uint8)).save(tmp_path / "untagged.png")
    paths = [tmp_path / "bad.svs", tmp_path / "glass.png", tmp_path / "untagged.png", tmp_path / "gone.tif", slide]
    assert run_slides(paths, tmp_path / "out") == FAILED_CODE
    with (tmp_path / "out" / "slides.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["failed"] * 4 + ["finished"]
    assert "no tissue is found" in rows[1]["reason"]
    assert "--mpp" in rows[2]["reason"]
    assert rows[4]["n_mitotic_figures"] == str(len(FIGURES))
    assert {row["not_for"] for row in rows} == {"clinical use"}
    assert capsys.readouterr().err.count("error: ") == 4
    assert run_slides(paths, tmp_path / "out", shard=(5, 5)) == 0
    assert (tmp_path / "out" / "slides.5-of-5.csv").is_file()


def test_a_slide_that_vanishes_is_one_line(
    slide: Path, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, n_read = Slide.read, 0

    def vanish(self: Slide, *box: object) -> np.ndarray:
        nonlocal n_read
        n_read += 1
        if n_read == 5:
            slide.unlink()
            self._blocks.clear()
        return read(self, *box)

    monkeypatch.setattr(Slide, "read", vanish)
    with pytest.raises(InputError, match=r"a\.tif is gone"):
        analyse(slide, tmp_path / "out", *truth, SETTINGS)
    assert not (tmp_path / "out").exists()


def test_the_command_by_real_networks(
    slide: Path, detector_bundle: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--detector", str(detector_bundle), "--classifier", str(tiny_bundle), "--device", "cpu"]
    assert main(["slide", str(slide), "--out", str(tmp_path / "out"), "--floor", "0.4", *given]) == 0
    assert "Not for clinical use" in capsys.readouterr().out
    assert (tmp_path / "out" / "a.tif" / "summary.json").is_file()
    assert main(["slide", str(slide), "--out", str(tmp_path / "out"), "--floor", "7", *given]) == 1
    assert "--floor cannot be used" in capsys.readouterr().err
