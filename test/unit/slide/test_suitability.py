"""What a slide's own stain and scale do to the detector, and what the summary says of it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from unit.detect.conftest import overwrite_block

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.detect.tiles import Tile
from mitoscope.errors import InputError
from mitoscope.images.slide import Slide, open_slide
from mitoscope.slide.analyse import Settings, analyse
from mitoscope.slide.journal import Journal
from mitoscope.slide.suitability import list_scale_warnings

SETTINGS = Settings(None, None, 0.05)
TILE_PX = 64
Truth = tuple[Detector, Classifier]


@pytest.fixture(scope="module")
def normalising(truth: Truth) -> Truth:
    """The networks of truth, but for a detector that brings tissue to one optical density."""
    detector, classifier = truth
    spec = replace(detector.bundle.input, density_mean=(0.2, 0.5, 0.2), density_std=(0.1, 0.1, 0.1))
    bundle = replace(detector.bundle, input=spec)
    return Detector(bundle, detector.members, detector.device, "fp32"), classifier


@pytest.fixture(scope="module")
def section() -> np.ndarray:
    """uint8 (760, 1700, 3): coarse noise in the colours of tissue on the left, glass on the right."""
    pixels = np.full((760, 1700, 3), 243, np.uint8)
    noise = np.random.default_rng(0).normal((200, 120, 180), (15, 25, 15), (85, 108, 3)).clip(1, 219)
    pixels[40:720, 40:900] = noise.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)[:, :860]
    return pixels


def save(path: Path, pixels: np.ndarray) -> Path:
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(TILE_PX, TILE_PX), compression="zlib",
                     resolution=(40000, 40000), resolutionunit="CENTIMETER")  # fmt: skip
    return path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The pixels that the detector is given, tile by tile."""
    read, tiles = Detector.read, list[np.ndarray]()

    def record(self: Detector, slide: Slide, tile: Tile) -> np.ndarray:
        tiles.append(read(self, slide, tile))
        return tiles[-1]

    monkeypatch.setattr(Detector, "read", record)
    return tiles


def test_ink_beside_the_tissue_changes_nothing_of_what_the_detector_sees(
    section: np.ndarray, normalising: Truth, tmp_path: Path, seen: list[np.ndarray]
) -> None:
    clean = analyse(save(tmp_path / "clean.tif", section), tmp_path / "out" / "clean", *normalising, SETTINGS)
    first = seen[0].astype(int)
    seen.clear()
    inked = section.copy()
    inked[20:740, 1200:1680] = (20, 40, 170)
    result = analyse(save(tmp_path / "ink.tif", inked), tmp_path / "out" / "ink", *normalising, SETTINGS)
    assert np.abs(seen[0] - first).max() <= 1
    for name in ("mean", "std"):
        assert result["optical_density"][name] == pytest.approx(clean["optical_density"][name], abs=0.005)
    assert clean["optical_density"]["n_windows"] == 256 and clean["optical_density"]["n_unread"] == 0
    assert not any("optical density" in text for text in (*clean["warnings"], *result["warnings"]))


def test_a_detector_that_takes_slides_as_they_are_measures_nothing(
    section: np.ndarray, truth: Truth, tmp_path: Path
) -> None:
    assert analyse(save(tmp_path / "a.tif", section), tmp_path / "out", *truth, SETTINGS)["optical_density"] is None


def test_a_density_that_could_not_be_measured_is_a_warning(
    section: np.ndarray, normalising: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mitoscope.images.density.LEAST_PX", 10**9)
    summary = analyse(save(tmp_path / "a.tif", section), tmp_path / "out", *normalising, SETTINGS)
    assert summary["optical_density"] == {"mean": None, "std": None, "n_windows": 256, "n_unread": 0}
    assert any("the optical density of the tissue could not be measured" in text for text in summary["warnings"])


def damage(path: Path, section: np.ndarray) -> None:
    """Damage a tile in the tissue; the file's time stays."""
    stamp = path.stat().st_mtime_ns
    overwrite_block(path, 5 * -(-section.shape[1] // TILE_PX) + 5)
    os.utime(path, ns=(stamp, stamp))


def test_windows_that_cannot_be_read_are_counted(section: np.ndarray, normalising: Truth, tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", section)
    damage(path, section)
    summary = analyse(path, tmp_path / "out", *normalising, SETTINGS)
    n_unread = summary["optical_density"]["n_unread"]
    assert n_unread > 0 and summary["optical_density"]["mean"]
    assert any(text.startswith(f"{n_unread} of the 256 windows") for text in summary["warnings"])


def test_tiles_that_were_seen_at_another_density_are_read_again(
    section: np.ndarray, normalising: Truth, tmp_path: Path, seen: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, add = save(tmp_path / "a.tif", section), Journal.add
    intact, stamp = path.read_bytes(), path.stat().st_mtime_ns
    damage(path, section)

    def stop(self: Journal, name: str, part: object) -> None:
        add(self, name, part)
        if len(self.done) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Journal, "add", stop)
        analyse(path, tmp_path / "out", *normalising, SETTINGS)
    path.write_bytes(intact)
    os.utime(path, ns=(stamp, stamp))
    seen.clear()
    summary = analyse(path, tmp_path / "out", *normalising, SETTINGS)
    assert summary["optical_density"]["n_unread"] == 0
    assert len(seen) == summary["tiles"]["n_with_tissue"]  # by one density


def test_a_slide_that_is_too_coarse_for_either_network_is_refused_before_its_tissue_is_sought(
    section: np.ndarray, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, classifier = truth
    spec = replace(detector.bundle.input, mpp=0.5)
    coarse = Detector(replace(detector.bundle, input=spec), detector.members, detector.device, "fp32")
    monkeypatch.setattr("mitoscope.slide.analyse.read_overview", lambda _: pytest.fail("too late"))
    path = save(tmp_path / "a.tif", section)
    for mpp, want in ((2.5, 0.25), (4.5, 0.5)):  # for the classifier alone, for both
        with pytest.raises(InputError, match=f"cannot be resampled to {want:g} µm per px: got {mpp:g}"):
            analyse(path, tmp_path / "out", coarse, classifier, replace(SETTINGS, mpp=mpp))


def test_pixels_coarser_than_a_network_was_trained_on_are_a_warning(
    section: np.ndarray, truth: Truth, tmp_path: Path
) -> None:
    slide, detector, classifier = save(tmp_path / "a.tif", section), truth[0].bundle, truth[1].bundle
    detector = replace(detector, input=replace(detector.input, mpp=0.5))

    def warn(mpp: float) -> list[str]:
        return list_scale_warnings(open_slide(slide, mpp), detector, classifier)

    assert warn(0.25) == warn(0.37) == []
    assert [text.split(":")[0] for text in warn(0.5)] == [
        "a pixel is 0.5 µm, and the classifier was trained on 0.25 µm"]  # fmt: skip
    assert len(warn(0.74)) == 1 and len(warn(0.8)) == 2
    summary = analyse(slide, tmp_path / "out", *truth, replace(SETTINGS, mpp=0.5))
    assert sum(text.startswith("a pixel is 0.5 µm") for text in summary["warnings"]) == 2
