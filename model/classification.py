"""Track 2: a stack of crops in, a class and a confidence per page out.

The slugs and file names are in `mitoscope.sockets`; the word "confidence" is used only here.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DeviceError
from mitoscope.images.crops import find_stack, read_stack
from mitoscope.sockets import INPUT_SLUG, OUTPUT_NAME
from mitoscope.stopwatch import Stopwatch
from model.contract import check_writable, write_result

if TYPE_CHECKING:
    from mitoscope.classify.classifier import Classifier

IMAGES_FOLDER = f"images/{INPUT_SLUG}"
PAGES_NAMED = 8  # pages unlike the training crops that the log names

# The result of one page. "confidence" is P(atypical), whatever the class.
Record = TypedDict("Record", {"class": str, "confidence": float})


@dataclass(frozen=True)
class StackCase:
    """One scored stack.

    Attributes:
        stack: The file.
        p_members: float64 (M, N), P(atypical) in [0, 1] by member and page.
        records: The result, one record per page.
        outliers: For each page the features in which it is unlike the training crops
            (`mitoscope.classify.outliers.find_outliers`); None if the bundle does not describe them. Only logged.
    """

    stack: Path
    p_members: np.ndarray
    records: list[Record]
    outliers: list[list[str]] | None

    def describe(self) -> list[str]:
        """The log's lines on pages."""
        counts = Counter(record["class"] for record in self.records)
        classes = ", ".join(f"{counts[name]} {name}" for name in CLASS_NAMES)
        return [
            f"pages     {len(self.records)} in {self.stack.name!r}: {classes}",
            f"unlike    {describe_outliers(self.outliers)}",
        ]

    def tabulate(self) -> list[str]:
        """One line per page; the spread is the largest minus the smallest probability of the members."""
        spread = np.ptp(self.p_members, axis=0)  # (N,)
        rows = [
            f"{page:4d}  {record['class']:8s}  {record['confidence']:10.4f}  {spread[page - 1]:6.4f}"
            for page, record in enumerate(self.records, start=1)
        ]
        return ["page  class     p_atypical  spread (largest - smallest of the members)", *rows]


def score_stack(
    input_dir: Path, output_dir: Path, get_classifier: "Callable[[], Classifier]", watch: Stopwatch
) -> StackCase:
    """Score a stack of crops: one record per page.

    Args:
        input_dir: The case's folder.
        output_dir: Where the result goes; made if it is missing.
        get_classifier: Called after the stack has been read and the output folder has been tested.
        watch: Measures the seconds by stage.
    """
    with watch.stage("read"):
        stack = find_stack(input_dir / IMAGES_FOLDER, root=input_dir)
        crops = read_stack(stack)  # uint8 (N, 128, 128, 3)
    check_writable(output_dir / OUTPUT_NAME)
    classifier = get_classifier()
    with watch.stage("forward"):
        p_members = classifier.predict_members(crops)  # (M, N)
    with watch.stage("compare"):
        outliers = compare_crops(crops, classifier)
    with watch.stage("write"):
        records = encode_result(classifier.combine(p_members), classifier.threshold)
        write_result(output_dir / OUTPUT_NAME, records)
    return StackCase(stack, classifier.calibrate(p_members), records, outliers)


def get_place() -> "Callable[..., Classifier]":
    """The function that places a bundle."""
    from mitoscope.classify.classifier import Classifier  # here: it imports torch

    return Classifier.place


def compare_crops(crops: np.ndarray, classifier: "Classifier") -> list[list[str]] | None:
    """Per crop of uint8 (N, 128, 128, 3): the features in which it is unlike the training crops; None if unknown."""
    from mitoscope.classify.outliers import find_outliers  # they import torch
    from mitoscope.images.stain import measure_crops

    training = classifier.bundle.training_crops
    return None if training is None else find_outliers(measure_crops(crops), training)


def encode_result(p_atypical: Iterable[float], threshold: float) -> list[Record]:
    """Turn probabilities into the platform's records.

    Args:
        p_atypical: P(atypical) of each page, in page order, in [0, 1].
        threshold: A page is atypical when its probability is at least this.

    Returns:
        One record per page. ``confidence`` is a Python float, and so a JSON float even at 0.0 and 1.0: the evaluator
        fails a whole submission for one integer, or one NaN (which the platform turns into null).

    Raises:
        DeviceError: A probability is not a number in [0, 1].
    """
    values = [float(p) for p in p_atypical]
    for page, p in enumerate(values, start=1):
        if not (math.isfinite(p) and 0 <= p <= 1):
            raise DeviceError(
                f"the probability of page {page} is unusable",
                got=p,
                expected="a number in [0, 1]",
                remedy="run again with --precision fp32",
            )
    return [{"class": CLASS_NAMES[p >= threshold], "confidence": p} for p in values]


def describe_outliers(outliers: list[list[str]] | None) -> str:
    """Name the first few pages that are unlike the training crops, with the features."""
    if outliers is None:
        return "unknown: the bundle does not describe its training crops"
    unlike = [f"page {page} ({', '.join(names)})" for page, names in enumerate(outliers, start=1) if names]
    verb = "is" if len(unlike) == 1 else "are"
    summary = f"{len(unlike)} of {len(outliers)} pages {verb} unlike the training crops"
    more = [f"and {len(unlike) - PAGES_NAMED} more"] if len(unlike) > PAGES_NAMED else []
    return f"{summary}: {', '.join(unlike[:PAGES_NAMED] + more)}" if unlike else summary
