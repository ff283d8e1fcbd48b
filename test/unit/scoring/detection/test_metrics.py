import math
from typing import Any

import numpy as np
import pytest
from grand_challenge_metrics.scorers import score_detection
from track1_evaluator import Image, score

from mitoscope.scoring.detection.match import count_found, count_found_by_threshold, find_hits, match_boxes
from mitoscope.scoring.detection.metrics import METRICS
from mitoscope.scoring.detection.regions import Group, Region

CALLED, OTHER = "mitotic figure", "non-mitotic figure"
PIXEL_MM = 0.00025


def make_images(seed: int) -> list[Image]:
    """1 to 4 images with up to 20 figures and 40 points: on pixels or between them, crowded or not, with duplicates,
    equal probabilities, and images where one of the two is missing."""
    random, images = np.random.default_rng(seed), []
    for _ in range(random.integers(1, 5)):
        n_figures, n_points = (int(random.integers(0, most)) * int(random.random() < 0.9) for most in (20, 40))
        side = random.choice([0.05, 0.3, 2.0])
        figures, points = random.random((n_figures, 2)) * side, random.random((n_points, 2)) * side
        if n_figures and n_points:
            near, copied = random.random((2, n_points)) < [[0.6], [0.15]]
            points[near] = figures[random.integers(0, n_figures, near.sum())] + random.normal(0, 0.004, (near.sum(), 2))
            points[copied] = points[random.integers(0, n_points, copied.sum())]
        if random.random() < 0.5:
            figures, points = ((array / PIXEL_MM).round() * PIXEL_MM for array in (figures, points))
        p = random.random(n_points).round(1 if random.random() < 0.5 else 6)
        rows = zip(points.clip(0), p.tolist(), strict=True)
        images.append({
            "points": [(*point.tolist(), CALLED if value >= 0.4 else OTHER, value) for point, value in rows],
            "truth": [tuple(figure) for figure in figures.tolist()],
            "domain": int(random.integers(0, 3)),
            "kind": str(random.choice(["hotspot", "random"])),
        })  # fmt: skip
    return images


def make_region(image: Image, case: str | None = None) -> Region:
    """The region that the readers would make of an image."""
    x, y, names, p = (list(column) for column in zip(*image["points"], strict=True)) if image["points"] else [[]] * 4
    return Region(
        image="a.tiff",
        points_mm=np.array([x, y], dtype=float).T.reshape(-1, 2),
        p_mitosis=np.array(p, dtype=float),
        called=np.array([name == CALLED for name in names], dtype=bool),
        figures_mm=np.array(image["truth"], dtype=float).reshape(-1, 2),
        hard_negatives_mm=np.empty((0, 2)),
        case=case,
    )


def measure(images: list[Image]) -> dict[str, Any]:
    return Group("all", [make_region(image) for image in images], None).metrics


@pytest.mark.parametrize("seed", range(40))
def test_the_metrics_are_the_evaluators(seed: int) -> None:
    images = make_images(seed)
    got, expected = measure(images), score(images)
    assert set(got) == set(METRICS) == set(expected)
    assert got["AP"] == (None if expected["AP"] == -1 else pytest.approx(expected["AP"], rel=0, abs=1e-9))
    is_known = not math.isnan(expected["froc_auc"])
    assert got["froc_auc"] == (pytest.approx(expected["froc_auc"], rel=0, abs=1e-9) if is_known else None)
    for name in ("precision", "recall", "f1_score"):
        assert got[name] == pytest.approx(expected[name], rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_counts_are_those_of_the_function_that_the_evaluator_calls(seed: int) -> None:
    for image in make_images(seed):
        region, thresholds = make_region(image), np.linspace(0, 1, 11)
        found, called = region.count_at(thresholds)
        for number, threshold in enumerate(thresholds):
            above = [(x, y, 0) for x, y, _, p in image["points"] if p >= threshold]
            counts = score_detection(ground_truth=[(*xy, 0) for xy in image["truth"]], predictions=above, radius=7.5e-3)
            assert (found[number], called[number] - found[number]) == (counts.true_positives, counts.false_positives)


@pytest.mark.parametrize("seed", range(10))
def test_average_precision_is_that_of_torchmetrics(seed: int) -> None:
    from torch import IntTensor, Tensor
    from torchmetrics.detection import MeanAveragePrecision

    images = make_images(seed)
    metric = MeanAveragePrecision(
        max_detection_thresholds=[1, 10, 1_000_000], rec_thresholds=np.arange(0, 1.01, 0.01).tolist()
    )
    for image in images:
        boxes = [Tensor([[x - 0.01125, y - 0.01125, x + 0.01125, y + 0.01125] for x, y, *_ in image[key]])
                 for key in ("points", "truth")]  # fmt: skip
        labels = [IntTensor([1] * len(each)) for each in boxes]
        scores = Tensor([p for *_, p in image["points"]])
        metric.update(
            [{"boxes": boxes[0], "labels": labels[0], "scores": scores}], [{"boxes": boxes[1], "labels": labels[1]}]
        )
    got = measure(images)["AP"]
    assert np.float32(-1 if got is None else got) == metric.compute()["map_50"].item()


FIGURE = np.array([[1.0, 1.0]])


@pytest.mark.parametrize(("distance_px", "n_found"), [(0, 1), (29, 1), (31, 0)])
def test_a_point_within_7_5_um_of_a_figure_finds_it(distance_px: int, n_found: int) -> None:
    points = FIGURE + np.array([distance_px * PIXEL_MM, 0])
    assert count_found(find_hits(FIGURE, points), np.array([True])) == n_found
    assert match_boxes(FIGURE, points, np.array([0.5])).sum() == n_found


def test_a_second_point_on_a_figure_is_a_false_alarm() -> None:
    points = np.repeat(FIGURE, 2, axis=0)
    assert count_found(find_hits(FIGURE, points), np.array([True, True])) == 1
    assert match_boxes(FIGURE, points, np.array([0.5, 0.9])).tolist() == [False, True]  # the more probable one


def test_figures_choose_in_their_order_and_take_the_nearest_point() -> None:
    figures = np.array([[1.0, 1.0], [1.0, 1.004]])
    points = np.array([[1.0, 1.003], [1.0, 0.996]])  # the first figure takes the first point, and the second gets none
    hits = find_hits(figures, points)
    assert [near.tolist() for near in hits] == [[0, 1], [0]]
    assert count_found(hits, np.array([True, True])) == 1
    assert count_found(hits[::-1], np.array([True, True])) == 2


def test_points_that_several_figures_share_are_counted_anew_at_each_threshold() -> None:
    figures = np.array([[1.0, 1.0], [1.0, 1.004], [2.0, 2.0]])
    points = np.array([[1.0, 1.003], [1.0, 0.996], [2.0, 2.0]])
    found = count_found_by_threshold(
        find_hits(figures, points), np.array([0.9, 0.3, 0.5]), np.array([0, 0.3, 0.5, 0.6, 1])
    )
    assert found.tolist() == [2, 2, 2, 1, 0]


def test_nothing_to_find_and_nothing_found_is_an_f1_of_1() -> None:
    nothing = {"points": [], "truth": []}
    assert measure([nothing]) == {"f1_score": 1, "precision": 0, "recall": 0, "AP": None, "froc_auc": None}
    assert measure([nothing, {"points": [], "truth": [(1, 1)]}])["AP"] == 0


@pytest.mark.parametrize("seed", range(8))
def test_a_region_of_weight_2_counts_as_if_it_were_there_twice(seed: int) -> None:
    images, random = make_images(seed), np.random.default_rng(seed)
    for image in images:  # equal probabilities stand in another order where an image is there twice
        image["points"] = [(x, y, name, random.random()) for x, y, name, _ in image["points"]]
    group = Group("all", [make_region(image) for image in images], None)
    weights = np.arange(len(images)) % 3
    if not (group.counts[2] * weights).any() or not len(group.p_mitosis):
        pytest.skip("nothing to find")
    twice = [region for region, weight in zip(group.regions, weights, strict=True) for _ in range(weight)]
    got, expected = group.measure(weights), Group("twice", twice, None).measure()
    np.testing.assert_allclose(got[:4], expected[:4], rtol=0, atol=1e-12)  # FROC keeps the thresholds of all regions
