"""The figures of a slide: their crops, cut around them, and what the classifier makes of these."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import floor

import numpy as np

from mitoscope.classify.classifier import FORWARD_CROPS, Classifier
from mitoscope.classify.outliers import find_outliers
from mitoscope.errors import InputError
from mitoscope.images import CROP_PX
from mitoscope.images.slide import Slide
from mitoscope.images.stain import measure_crops
from mitoscope.progress import progress
from mitoscope.scoring.report.page import encode_image
from mitoscope.slide.journal import Journal

READ_AHEAD = 2  # batches of crops in memory that wait for the networks


@dataclass(frozen=True)
class Figures:
    """The points of a slide in its tissue, the most probable first.

    Attributes:
        points: float64 (N, 3): x and y in pixels of level 0, and the probability that it is a mitotic figure.
        members: float64 (M, N): each network's calibrated P(atypical); NaN where the crop could not be read.
        p_atypical: float64 (N,): the ensemble's; NaN likewise.
        unlike: The features by which each crop is unlike the training crops; None if the bundle does not list them.
        images: Base64 of a WebP of each crop; empty where it could not be read.
        wait_s: That the networks waited for pixels, in this process.
        network_s: That the networks computed, in this process.
    """

    points: np.ndarray
    members: np.ndarray
    p_atypical: np.ndarray
    unlike: list[list[str]] | None
    images: list[str]
    wait_s: float = 0.0
    network_s: float = 0.0

    @property
    def n_unread(self) -> int:
        """Figures whose crop could not be read."""
        return int(np.isnan(self.p_atypical).sum())


def classify(classifier: Classifier, slide: Slide, points: np.ndarray, journal: Journal) -> Figures:
    """Classify the figures of a slide; those that the journal holds are not read again.

    Args:
        classifier: Normal or atypical.
        slide: The slide.
        points: float64 (N, 3), see `Figures`.
        journal: Of this slide, these points and this classifier.

    Raises:
        InputError: The slide's pixels are too large or too small for the classifier.
        DeviceError: See `Classifier.predict_members`.
    """
    wait_s = network_s = 0.0
    waiting = [number for number in range(len(points)) if str(number) not in journal.done]
    with progress(len(points), unit="figures", what="classifying") as bar:
        bar.update(len(points) - len(waiting))
        started = time.perf_counter()
        for numbers, crops in _read_ahead(classifier, slide, points, waiting):
            wait_s += time.perf_counter() - started
            started = time.perf_counter()
            for number, part in zip(numbers, _classify_batch(classifier, crops), strict=True):
                journal.add(str(number), part)
            network_s += time.perf_counter() - started
            bar.update(len(numbers))
            started = time.perf_counter()
    parts = [journal.done[str(number)] for number in range(len(points))]
    blank = [float("nan")] * len(classifier.members)
    raw = np.array([part["p"] or blank for part in parts], float).reshape(-1, len(classifier.members)).T  # (M, N)
    knows_training = classifier.bundle.training_crops is not None
    return Figures(
        points,
        classifier.calibrate(raw),
        classifier.combine(raw),
        [part["unlike"] for part in parts] if knows_training else None,
        [part["image"] for part in parts],
        wait_s,
        network_s,
    )


def read_crop(slide: Slide, x_px: float, y_px: float, mpp: float, interpolation: str) -> np.ndarray | None:
    """The crop around a point of level 0: uint8 (128, 128, 3); white outside of the slide. None if it is damaged."""
    sx, sy = slide.measure_scale(mpp)
    left, top = (floor(place / scale) - CROP_PX // 2 for place, scale in ((x_px, sx), (y_px, sy)))
    try:
        return slide.read(left, top, CROP_PX, CROP_PX, mpp, interpolation)
    except InputError:
        return None


def _classify_batch(classifier: Classifier, crops: Sequence[np.ndarray | None]) -> list[dict[str, object]]:
    """What is known of each crop, as JSON holds it."""
    found = [number for number, crop in enumerate(crops) if crop is not None]
    parts: list[dict[str, object]] = [{"p": None, "unlike": [], "image": ""} for _ in crops]
    if not found:
        return parts
    pixels = np.stack([crop for crop in crops if crop is not None])
    p_members = classifier.predict_members(pixels, repeatable=True)  # (M, B)
    training = classifier.bundle.training_crops
    unlike = find_outliers(measure_crops(pixels), training) if training else [list[str]() for _ in found]
    for place, number in enumerate(found):
        parts[number] = {
            "p": p_members[:, place].tolist(),
            "unlike": unlike[place],
            "image": encode_image(pixels[place]),
        }
    return parts


def _read_ahead(
    classifier: Classifier, slide: Slide, points: np.ndarray, numbers: list[int]
) -> Iterator[tuple[list[int], list[np.ndarray | None]]]:
    """Read batches of crops in a thread, some of them before they are wanted."""
    spec, size = classifier.bundle.input, FORWARD_CROPS[classifier.device.type]
    slide.measure_scale(spec.mpp)  # raises here, not for each crop

    def read(batch: list[int]) -> list[np.ndarray | None]:
        places = points[batch, :2].tolist()
        return [read_crop(slide, x, y, spec.mpp, spec.interpolation) for x, y in places]

    pending: deque[tuple[list[int], Future[list[np.ndarray | None]]]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for first in range(0, len(numbers), size):
                batch = numbers[first : first + size]
                pending.append((batch, pool.submit(read, batch)))
                if len(pending) > READ_AHEAD:
                    done, crops = pending.popleft()
                    yield done, crops.result()
            for done, crops in pending:
                yield done, crops.result()
        finally:
            pool.shutdown(cancel_futures=True)
