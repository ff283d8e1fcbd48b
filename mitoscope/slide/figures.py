"""The figures of a slide: their crops, cut around them, and what the classifier makes of these."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np

from mitoscope.classify.classifier import FORWARD_CROPS, Classifier
from mitoscope.classify.outliers import find_outliers
from mitoscope.errors import InputError
from mitoscope.images import CROP_PX
from mitoscope.images.slide import Slide
from mitoscope.images.stain import measure_crops
from mitoscope.networks.shared import SharedMember
from mitoscope.progress import progress
from mitoscope.scoring.report.page import encode_image
from mitoscope.slide.journal import Journal
from mitoscope.slide.workers import Stage, Workers, cut

MOST_CARDS = 5_000  # figures of which the page shows a crop, the most probable: 32 MB
DAMAGED: dict[str, Any] = {"p": None, "unlike": [], "image": ""}  # a crop that could not be read


@dataclass(frozen=True)
class Figures:
    """The points of a slide in its tissue, the most probable first.

    Attributes:
        points: float64 (N, 3): x and y in pixels of level 0, and the probability that it is a mitotic figure.
        members: float64 (M, N): each network's calibrated P(atypical); NaN where the crop could not be read.
        p_atypical: float64 (N,): the ensemble's; NaN likewise.
        unlike: The features by which each crop is unlike the training crops; None if the bundle does not list them.
        images: Base64 of a WebP of each crop; empty where it could not be read, and after the first `MOST_CARDS`.
        network_s: Seconds of this process in which a network computed.
        read_s: Seconds of its threads together in which pixels were read.
    """

    points: np.ndarray
    members: np.ndarray
    p_atypical: np.ndarray
    unlike: list[list[str]] | None
    images: list[str]
    network_s: float = 0.0
    read_s: float = 0.0

    @property
    def n_unread(self) -> int:
        """Figures whose crop could not be read."""
        return int(np.isnan(self.p_atypical).sum())


def classify(classifier: Classifier, slide: Slide, points: np.ndarray, journal: Journal) -> Figures:
    """Classify the figures of a slide; those that the journal holds, by their places, are not read again.

    Args:
        classifier: Normal or atypical.
        slide: The slide.
        points: float64 (N, 3), see `Figures`.
        journal: Of this slide and this classifier.

    Raises:
        InputError: The slide's pixels are too large or too small for the classifier.
        DeviceError: See `Classifier.predict_members`.
    """
    slide.measure_scale(classifier.bundle.input.mpp)  # raises here, not for each crop
    shares_state = any(isinstance(member, SharedMember) for member in classifier.members)
    workers = Workers(one_computes=classifier.device.type == "cuda" or shares_state)
    names = [_name(x, y) for x, y, _ in points.tolist()]
    waiting = [
        number
        for number, name in enumerate(names)
        if name not in journal.done or (number < MOST_CARDS and not journal.done[name]["image"])
    ]
    waiting.sort(key=lambda number: _order(slide, *points[number, :2].tolist()))

    def look(numbers: Sequence[int]) -> tuple[Sequence[int], list[dict[str, Any]]]:
        """What is known of some figures."""
        with workers.reading.busy():
            crops = _read_crops(classifier, slide, points[numbers])
        shown = [number < MOST_CARDS for number in numbers]
        return numbers, _classify_batch(classifier, crops, shown, workers.computing)

    with progress(len(points), unit="figures", what="classifying", done=len(points) - len(waiting)) as bar:
        for numbers, parts in workers.map(look, cut(waiting, FORWARD_CROPS[classifier.device.type])):
            for number, part in zip(numbers, parts, strict=True):
                if part["p"] is not None:  # another start reads a damaged crop again
                    journal.add(names[number], part)
            bar.update(len(numbers))
    parts = [journal.done.get(name, DAMAGED) for name in names]
    blank = [float("nan")] * len(classifier.members)
    raw = np.array([part["p"] or blank for part in parts], float).reshape(-1, len(classifier.members)).T  # (M, N)
    knows_training = classifier.bundle.training_crops is not None
    return Figures(
        points,
        classifier.calibrate(raw),
        classifier.combine(raw),
        [part["unlike"] for part in parts] if knows_training else None,
        [part["image"] for part in parts[:MOST_CARDS]] + [""] * len(parts[MOST_CARDS:]),
        workers.computing.any_s,
        workers.reading.total_s,
    )


def read_crop(slide: Slide, x_px: float, y_px: float, mpp: float, interpolation: str) -> np.ndarray | None:
    """The crop around a point of level 0: uint8 (128, 128, 3); white outside of the slide. None if it is damaged.

    Raises:
        InputError: The file is gone.
    """
    sx, sy = slide.measure_scale(mpp)
    left, top = (floor(place / scale) - CROP_PX // 2 for place, scale in ((x_px, sx), (y_px, sy)))
    try:
        return slide.read(left, top, CROP_PX, CROP_PX, mpp, interpolation)
    except InputError:
        slide.check_exists()
        return None


def _name(x_px: float, y_px: float) -> str:
    """A figure's name in the journal: its place, to the last bit. Its number may change from start to start."""
    return f"{x_px!r},{y_px!r}"


def _classify_batch(
    classifier: Classifier, crops: Sequence[np.ndarray | None], shown: Sequence[bool], computing: Stage
) -> list[dict[str, Any]]:
    """What is known of each crop, as JSON holds it, with a picture of those shown."""
    found = [number for number, crop in enumerate(crops) if crop is not None]
    parts: list[dict[str, Any]] = [DAMAGED for _ in crops]
    if not found:
        return parts
    pixels = np.stack([crop for crop in crops if crop is not None])
    with computing.busy():
        p_members = classifier.predict_members(pixels, repeatable=True)  # (M, B)
    training = classifier.bundle.training_crops
    unlike = find_outliers(measure_crops(pixels), training) if training else [list[str]() for _ in found]
    for place, number in enumerate(found):
        parts[number] = {
            "p": p_members[:, place].tolist(),
            "unlike": unlike[place],
            "image": encode_image(pixels[place]) if shown[number] else "",
        }
    return parts


def _order(slide: Slide, x_px: float, y_px: float) -> tuple[float, float]:
    """Neighbours are read one after the other: hardly any block of the file is decoded twice."""
    return y_px // slide.block_px[1], x_px


def _read_crops(classifier: Classifier, slide: Slide, points: np.ndarray) -> list[np.ndarray | None]:
    """The crops around some points."""
    spec = classifier.bundle.input
    return [read_crop(slide, x, y, spec.mpp, spec.interpolation) for x, y, _ in points.tolist()]
