"""Slides on a real Slurm cluster, of which a node is lost in the middle: the results are those of an unbroken run."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from unit.detect.conftest import detector_bundle  # noqa: F401 - a fixture

from mitoscope.classify.predict import predict
from mitoscope.launch.crops import launch_crops
from mitoscope.launch.job import Resources
from mitoscope.launch.slides import launch_slides
from mitoscope.slide.run import run_slides

pytestmark = pytest.mark.slurm
A_NODE = Resources(gpus_per_node=0, cpus_per_task=2, mem_gb=2.0)
NAMES = ("a.png", "b.png", "c.png")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fields in the colours of tissue; the networks have random weights."""
    folder, random = tmp_path_factory.mktemp("fields"), np.random.default_rng(0)
    for name in NAMES:
        noise = random.integers(-30, 30, (20, 30, 3))
        coarse = Image.fromarray((np.array([190, 120, 180]) + noise).astype(np.uint8))
        coarse.resize((1200, 800), Image.Resampling.BICUBIC).save(folder / name, dpi=(101600, 101600))
    return [folder / name for name in NAMES]


def read_results(out: Path) -> dict[str, list[bytes]]:
    names = ("detections.csv", "qupath.geojson")
    found = {slide: [(out / slide / name).read_bytes() for name in names] for slide in NAMES}
    return found | {"": [(out / "slides.csv").read_bytes()]}


def test_slides_outlive_a_node(
    cluster: Any,
    slides: list[Path],
    detector_bundle: Path,  # noqa: F811 - the fixture
    tiny_bundle: Path,
    tmp_path: Path,
) -> None:
    options = {"detector": detector_bundle, "classifier": tiny_bundle, "mpp": None, "region": None, "floor": 0.3,
               "device": "cpu", "precision": "auto"}  # fmt: skip
    assert run_slides(slides, tmp_path / "unbroken", **options) == 0
    out = tmp_path / "out"
    with ThreadPoolExecutor(1) as pool:
        launched = pool.submit(partial(launch_slides, slides, out, A_NODE, poll_s=0.5, **options))
        cluster.until(lambda: any(read_lines(path) > 2 for path in out.glob(".*.work/tiles.jsonl")), "tiles")
        journal = next(path for path in out.glob(".*.work/tiles.jsonl") if read_lines(path) > 2)
        slide = journal.parent.name.removeprefix(".").removesuffix(".work")
        number = json.loads((out / "slurm" / "queue.json").read_text())[str(out / "slurm" / slide)][0]
        node = cluster.ask("squeue", "--noheader", "--array", f"--job={number}", "--format=%N")
        cluster.lose(node)
        assert not (out / slide).exists()  # it was lost in the middle
        assert launched.result(300) == 0
        cluster.start_node(node)
    assert read_results(out) == read_results(tmp_path / "unbroken")
    log = (out / "slurm" / f"{number}_0_log.out").read_text()
    assert log.count("Starting with JobEnvironment") == 2
    summary = json.loads((out / slide / "summary.json").read_text())
    assert summary["run"]["new_tissue_mm2"] < 0.99 * summary["counts"]["tissue_mm2"]


def read_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_crops_are_merged(cluster: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    for number in range(9):
        coarse = Image.fromarray(np.random.default_rng(number).integers(60, 256, (8, 8, 3), np.uint8))
        coarse.resize((128, 128)).save(tmp_path / "crops" / f"{number}.png")
    options = {"weights": tiny_bundle, "device": "cpu"}
    assert predict([tmp_path / "crops"], tmp_path / "whole.csv", **options) == 0
    assert launch_crops([tmp_path / "crops"], tmp_path / "jobs.csv", A_NODE, 4, poll_s=0.5, **options) == 0
    assert (tmp_path / "jobs.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not (tmp_path / "jobs.csv.parts").exists()
    assert cluster.ask("squeue", "--noheader", f"--user={os.getuid()}") == ""
