"""Slides and crops as jobs that run here, one after the other; test/slurm has a real cluster."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitoscope.classify.predict import predict
from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.launch import crops as crops_module
from mitoscope.launch import slides as slides_module
from mitoscope.launch.crops import CropsJob, launch_crops
from mitoscope.launch.job import Job, Resources
from mitoscope.launch.slides import launch_slides


def run_here(jobs: Sequence[Job], *_: object, **__: object) -> dict[Job, DataError]:
    """As `list_failures`; a slide named lost.png is on a node that is lost."""
    lost = {job: DataError("lost failed", got="x", expected="y", remedy="z") for job in jobs if job.name == "lost.png"}
    for job in jobs:
        if job not in lost:
            assert not job.run()
            assert job.result.is_file()
    return lost


def save_picture(path: Path, seed: int, *, size: tuple[int, int] = (128, 128), **options: object) -> Path:
    noise = np.random.default_rng(seed).integers(-30, 30, (8, 8, 3))
    coarse = Image.fromarray((np.array([190, 120, 180]) + noise).astype(np.uint8))  # as tissue
    coarse.resize(size, Image.Resampling.BICUBIC).save(path, **options)
    return path


def test_crops_in_jobs_are_the_same_bytes(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crops_module, "run_slurm", run_here)
    (tmp_path / "crops").mkdir()
    for number in range(5):
        save_picture(tmp_path / "crops" / f"{number}.png", number)
    (tmp_path / "crops" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "link.png").symlink_to(tmp_path / "crops" / "0.png")
    crops = [Path("crops"), Path("link.png")]  # a link keeps its own name
    absolute = [tmp_path / path for path in crops]
    predict(absolute, tmp_path / "whole.csv", weights=tiny_bundle, device="cpu", strict=False)
    monkeypatch.chdir(tmp_path)
    options = {"weights": tiny_bundle, "device": "cpu", "strict": False}
    assert launch_crops(crops, Path("jobs.csv"), Resources(), 3, **options) == 3  # one cannot be read
    assert (tmp_path / "jobs.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    unread = [(tmp_path / f"{name}.csv.unreadable.csv").read_text() for name in ("jobs", "whole")]
    assert unread[0] == unread[1]
    assert not (tmp_path / "jobs.csv.parts").exists()


def test_a_shard_is_found_finished_and_fails_where_a_bad_file_forbids_a_result(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture(tmp_path / "a.png", 0)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for strict, code in ((True, 3), (False, 0)):
        options = (("weights", tiny_bundle), ("device", "cpu"), ("strict", strict))
        job = CropsJob((tmp_path / "a.png", tmp_path / "bad.png"), tmp_path / "parts", (1, 1), options)
        assert job.run() == code
    capsys.readouterr()
    assert job.run() == 0
    assert "is finished: nothing to do" in capsys.readouterr().out


def test_slides_in_jobs_are_one_table(
    detector_bundle: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slides_module, "list_failures", run_here)
    good = save_picture(tmp_path / "good.png", 0, size=(640, 480), dpi=(101600, 101600))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    slides = [tmp_path / "bad.png", good, tmp_path / "lost.png"]
    options = {"detector": detector_bundle, "classifier": tiny_bundle, "mpp": None, "region": None, "floor": 0.3,
               "device": "cpu", "precision": "auto"}  # fmt: skip
    assert launch_slides(slides, tmp_path / "out", Resources(), **options) == 3
    with (tmp_path / "out" / "slides.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["slide"], row["state"]) for row in rows] == [
        ("bad.png", "failed"), ("good.png", "finished"), ("lost.png", "failed")]  # fmt: skip
    assert "lost failed: got x" in rows[2]["reason"]
    assert (tmp_path / "out" / "good.png" / "summary.json").is_file()
    assert not list((tmp_path / "out" / "slurm").iterdir())


@pytest.mark.parametrize("command", [["slide", "a.png"], ["classify", "--crops", "a.png"]])
def test_what_does_not_go_with_a_launcher_is_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--out", "x", "--launcher", "slurm", "--shard", "1/2"]) == 1
    assert "--shard cannot be combined with --launcher slurm" in capsys.readouterr().err
    assert main([*command, "--out", "x", "--slurm", "partition=gpu"]) == 1
    assert "--slurm needs --launcher slurm" in capsys.readouterr().err
