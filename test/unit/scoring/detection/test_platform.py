import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from track1_evaluator import Image, aggregate

from mitoscope.cli import main
from mitoscope.errors import DataError
from mitoscope.scoring.detection.platform import find_points, is_track_1, read_regions
from mitoscope.sockets import POINTS_NAME, REGION_SLUG

Content = dict[str, Any]
CALLED, OTHER = "mitotic figure", "non-mitotic figure"


def make_images() -> list[Image]:
    """Six regions: two tumours, two of the kinds, one without figures, one without points; equal probabilities."""
    random, images = np.random.default_rng(3), []
    for number, (n_figures, n_loose) in enumerate([(6, 20), (3, 5), (0, 4), (2, 0), (9, 12), (4, 30)]):
        figures = random.random((n_figures, 2)) * 1.5
        hits = figures[:-1] + random.normal(0, 0.003, (max(n_figures - 1, 0), 2)) if n_loose else np.empty((0, 2))
        points = np.concatenate([hits, hits[:1], random.random((n_loose, 2)) * 1.5]).clip(0).tolist()
        chance = random.random(len(points)) * 0.5 + (np.arange(len(points)) < len(hits)) * 0.4
        p = [round(float(value), 2) for value in chance]
        rows = [(*point, CALLED if value >= 0.4 else OTHER, value) for point, value in zip(points, p, strict=True)]
        images.append({
            "points": rows,
            "truth": [tuple(figure) for figure in figures.tolist()],
            "domain": number % 2,
            "kind": ["hotspot", "random"][number // 3],
        })  # fmt: skip
    return images


def write(folder: Path, images: list[Image], key: str = "interface") -> tuple[Path, Path]:
    """The platform's files: predictions.json and ground_truth.json, which names the images in another order."""
    jobs, truth = [], {}
    for number, image in enumerate(images):
        name, pk = f"{number:03}.tiff", f"00000000-0000-4000-8000-{number:012}"
        points = [{"name": word, "point": [x, y, 0.0], "probability": p} for x, y, word, p in image["points"]]
        content = {"name": "Points of interest", "type": "Multiple points", "points": points,
                   "version": {"major": 1, "minor": 0}}  # fmt: skip
        (folder / pk / "output").mkdir(parents=True)
        (folder / pk / "output" / POINTS_NAME).write_text(json.dumps(content))
        jobs.append({
            "pk": pk,
            "inputs": [{"image": {"name": name}, key: {"slug": REGION_SLUG}}],
            "outputs": [{"image": None, key: {"slug": "mitotic-figures", "relative_path": POINTS_NAME}}],
        })  # fmt: skip
        truth[name] = {"annotations": [[*figure, 0] for figure in image["truth"]], "tumor domain": image["domain"],
                       "roi type": image["kind"]}  # fmt: skip
    paths = folder / "predictions.json", folder / "ground_truth.json"
    paths[0].write_text(json.dumps(jobs))
    paths[1].write_text(json.dumps(dict(reversed(truth.items()))))
    return paths


@pytest.mark.parametrize("key", ["interface", "socket"])
def test_metrics_json_is_the_evaluators(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, truth = write(tmp_path, make_images(), key)
    arguments = ["--predictions-json", predictions, "--ground-truth", truth, "--out", tmp_path / "out"]
    assert main(["evaluate", *map(str, arguments)]) == 0
    got = json.loads((tmp_path / "out" / "metrics.json").read_text())
    expected = {name: None if math.isnan(value) else value for name, value in aggregate(make_images()).items()}
    assert expected["roi_type_challenging_f1"] == 1  # an empty kind, as the evaluator writes it
    assert got["aggregates"].keys() == expected.keys()
    for name, value in expected.items():
        assert got["aggregates"][name] == (value and pytest.approx(value, rel=0, abs=1e-9)), name
    assert [each["image"] for each in got["results"]] == [f"{number:03}.tiff" for number in range(6)]
    assert sum(each["metrics"]["false_negatives"] for each in got["results"]) > 0
    assert capsys.readouterr().out.startswith("# predictions.json against ground_truth.json")
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert 0.39 <= figures["threshold"]["value"] <= 0.4
    assert figures["pooled"]["AP"] == got["aggregates"]["AP"]
    assert list(figures["kinds"]) == ["hotspot", "random"]


def test_names_that_no_threshold_explains_are_scored_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images()
    images[0]["points"] = [(x, y, OTHER if p > 0.6 else CALLED, p) for x, y, _, p in images[0]["points"]]
    predictions, truth = write(tmp_path, images)
    arguments = ["--predictions-json", predictions, "--ground-truth", truth, "--out", tmp_path / "out"]
    assert main(["evaluate", *map(str, arguments)]) == 0
    assert "**Names and probabilities disagree:**" in capsys.readouterr().out
    aggregates = json.loads((tmp_path / "out" / "metrics.json").read_text())["aggregates"]
    assert aggregates["f1_score"] == pytest.approx(aggregate(images)["f1_score"], rel=0, abs=1e-9)


def test_the_ground_truth_tells_the_track(tmp_path: Path) -> None:
    assert is_track_1(write(tmp_path, make_images())[1])
    (tmp_path / "other.json").write_text('[{"image": "a", "labels": [], "tumordomains": []}]')
    assert not is_track_1(tmp_path / "other.json")
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read"):
        is_track_1(tmp_path / "nowhere.json")


POINT = {"name": CALLED, "point": [0.5, 0.5, 0.0], "probability": 0.9}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"points": [{**POINT, "name": "mitosis"}]}, "expected the name mitotic figure or non-mitotic figure; correct"),
        ({"points": [{"name": CALLED, "point": [0, 0, 0]}]}, "expected an object with name, point and probability"),
        (
            {"points": [POINT, {**POINT, "point": [1663, 2, 0]}]},
            "point 2 of the result of '001.tiff' fails the submission",
        ),
        ({"points": [{**POINT, "point": [1663, 2, 0]}]}, "expected mm, 10 at most: these look like pixels"),
        ({"points": [{**POINT, "point": [-0.01, 2, 0]}]}, "expected mm from the region's corner, not below 0"),
        ({"points": [{**POINT, "point": [0.5, 0.5]}]}, "expected a point [x_mm, y_mm, z_mm] of finite numbers"),
        ({"points": [{**POINT, "point": [0.5, None, 0]}]}, "expected a point [x_mm, y_mm, z_mm] of finite numbers"),
        ({"points": [{**POINT, "point": [float("nan"), 0, 0]}]}, "of finite numbers"),
        ({"points": [{**POINT, "probability": None}]}, "expected a probability in [0, 1]"),
        ({"points": [{**POINT, "probability": True}]}, "expected a probability in [0, 1]"),
        ({"points": [{**POINT, "probability": 1.5}]}, "expected a probability in [0, 1]"),
        ({"points": [7]}, "expected an object with name, point and probability"),
        ({"points": {}}, "expected an object with a list of points, empty where nothing was found"),
        ([], "the result of '001.tiff' fails the submission: got [], expected an object with a list of points"),
    ],
)
def test_a_point_that_fails_a_submission_fails_here_in_one_line(content: object, line: str, tmp_path: Path) -> None:
    predictions, truth = write(tmp_path, make_images())
    results = find_points(predictions)
    results["001.tiff"].write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        read_regions(results, truth)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def change_kind(truth: Content) -> None:
    truth["001.tiff"]["roi type"] = "necrosis"


def drop_domain(truth: Content) -> None:
    del truth["001.tiff"]["tumor domain"]


def lift_figure(truth: Content) -> None:
    truth["001.tiff"]["annotations"][0][2] = 0.5


def drop_image(truth: Content) -> None:
    del truth["001.tiff"]


def add_image(truth: Content) -> None:
    truth["009.tiff"] = truth["001.tiff"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (change_kind, "the entry of '001.tiff' in "),
        (drop_domain, "expected annotations ([x_mm, y_mm, 0] each), tumor domain and roi type (hotspot, challenging"),
        (lift_figure, "is malformed: got {'annotations': [["),
        (drop_image, "1 images have no ground truth: got '001.tiff'"),
        (add_image, "1 images of the ground truth have no result: got '009.tiff'"),
        (dict.clear, "cannot be read: got no image, expected an object by image"),
    ],
)
def test_a_ground_truth_that_does_not_fit_is_refused(
    change: Callable[[Content], None], line: str, tmp_path: Path
) -> None:
    predictions, path = write(tmp_path, make_images())
    truth = json.loads(path.read_text())
    change(truth)
    path.write_text(json.dumps(truth))
    with pytest.raises(DataError) as error:
        read_regions(find_points(predictions), path)
    assert line in str(error.value)
