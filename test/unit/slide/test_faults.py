"""A full disk: one line, no folder that looks whole, and the same command goes on when there is room."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tifffile

from mitoscope.classify.classifier import Classifier
from mitoscope.cli import main
from mitoscope.detect.detector import Detector
from mitoscope.slide import run as module


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """The system refuses to write more into any file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [100, 600, 4_000, 60_000])  # the mark, the tiles, the crops, the page
def test_a_full_disk_is_one_line(
    n_bytes: int, drawn: object, truth: tuple[Detector, Classifier], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(module.Detector, "load", lambda *_, **__: truth[0])
    monkeypatch.setattr(module.Classifier, "load", lambda *_, **__: truth[1])
    options = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", drawn, photometric="rgb", tile=(64, 64), **options)
    for name in ("whole", "out"):
        arguments = ["slide", str(tmp_path / "a.tif"), "--out", str(tmp_path / name)]
        if name == "out":
            with largest_file(n_bytes):
                assert main(arguments) == 1
            lines = capsys.readouterr().err.splitlines()
            faults = [line for line in lines if line.startswith("error: ")]
            assert len(faults) == 1 and "free space" in faults[0]
            assert not (tmp_path / "out" / "a.tif").exists()
            if n_bytes > 200:  # there was room for the table of what waits
                assert ",waiting," in (tmp_path / "out" / "slides.csv").read_text()
        assert main(arguments) == 0
    for name in ("detections.csv", "qupath.geojson"):
        assert (tmp_path / "out" / "a.tif" / name).read_bytes() == (tmp_path / "whole" / "a.tif" / name).read_bytes()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.tif", "slides.csv"}
