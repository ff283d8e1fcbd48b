"""The platform's own files: predictions.json and ground_truth.json in, metrics.json out (MIDOG 2025, Track 2).

The arithmetic is that of the challenge's evaluation container (DeepMicroscopy/MIDOG25_T2_evaluation_docker); it takes
besides what is refused here: an image without a result, an image twice, a confidence outside [0, 1].

`confidence` is read as P(atypical), whatever the class says; docs/adr/0007 says why, and who reads it in another way.
"""

import json
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.metrics import recall_score

from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DataError
from mitoscope.files import read_json
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.predictions import Array, check_probabilities
from mitoscope.sockets import INPUT_SLUG, OUTPUT_NAME

OUTPUT_SLUG = Path(OUTPUT_NAME).stem
OVERALL = ("sensitivity", "specificity", "balanced_accuracy", "roc_auc", "accuracy")
RESTORE = "restore the file that the platform wrote"


def find_results(
    predictions_json: Path, input_slug: str = INPUT_SLUG, output_slug: str = OUTPUT_SLUG
) -> dict[str, Path]:
    """Find the result of each image.

    Args:
        predictions_json: A list of jobs: ``pk``, ``inputs[].image.name``, ``outputs[].interface.relative_path`` (or
            ``socket`` for ``interface``).
        input_slug: The socket of the images.
        output_slug: The socket of the results.

    Returns:
        By the image's name, in the jobs' order: ``PK/output/RELATIVE_PATH`` in the folder of the file.

    Raises:
        DataError: It is no such file, or an image was scored twice.
    """
    results: dict[str, Path] = {}
    for number, job in enumerate(_read_list(predictions_json, "a list of jobs"), start=1):
        try:
            image = _value(job["inputs"], input_slug)["image"]["name"]
            answer = _value(job["outputs"], output_slug)
            path = predictions_json.parent / job["pk"] / "output" / _socket(answer)["relative_path"]
            if not isinstance(image, str):
                raise TypeError(f"an image's name {image!r}")
            if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(predictions_json.parent)):
                raise TypeError(f"a result outside of the folder, {str(path)!r}")
        except (KeyError, TypeError, AttributeError, StopIteration, ValueError) as error:
            raise DataError(
                f"job {number} of {predictions_json} is malformed",
                got=f"{type(error).__name__} {error}",
                expected=f"pk, an input of {input_slug} with its image's name, an output of {output_slug}",
                remedy=RESTORE,
            ) from error
        if image in results:
            raise DataError(
                f"{predictions_json} has an image twice", got=repr(image), expected="one job an image", remedy=RESTORE
            )
        results[image] = path
    return results


def read_results(results: dict[str, Path], ground_truth_json: Path) -> pd.DataFrame:
    """Put each page's answer beside its label.

    Args:
        results: As `find_results` gives them.
        ground_truth_json: ``[{"image": …, "labels": ["normal", …], "tumordomains": [1, …]}, …]``.

    Returns:
        image_id (the image's name, with ``#page`` from 1 where it has several), p_atypical, class, label, domain (str)
        and case (None: the platform names no slides), in the order of the ground truth, whatever that of the jobs.

    Raises:
        DataError: A file is no such file, the images are not the same in both, or the platform's evaluator would fail
            the submission for an answer: another number of pages, another class, an integer, null or NaN.
    """
    truth = _read_truth(ground_truth_json)
    check_same_images(results, truth)
    rows = []
    for image, (labels, domains) in truth.items():
        answers = _read_answers(results[image], image, len(labels))
        for page, row in enumerate(zip(answers, labels, domains, strict=True), start=1):
            (p_atypical, called), label, domain = row
            image_id = image if len(labels) == 1 else f"{image}#{page}"
            rows.append((image_id, p_atypical, called, label, str(domain), None))
    table = pd.DataFrame(rows, columns=["image_id", "p_atypical", "class", "label", "domain", "case"])
    table["p_atypical"] = check_probabilities(table["p_atypical"].to_numpy())
    return table


def check_same_images(results: Collection[str], truth: Collection[str]) -> None:
    """Refuse files that do not name the same images.

    Raises:
        DataError: An image is in one of them only.
    """
    for what, lacking in (
        ("images have no ground truth", set(results) - set(truth)),
        ("images of the ground truth have no result", set(truth) - set(results)),
    ):
        if lacking:
            got = f"{', '.join(map(repr, sorted(lacking)[:3]))}{' …' if len(lacking) > 3 else ''}"
            remedy = "give the files of one phase, with all of its jobs"
            raise DataError(f"{len(lacking)} {what}", got=got, expected="the same images in both", remedy=remedy)


def platform_metrics(is_atypical: Array, p_atypical: Array, called: Array, domain: dict[str, Array]) -> dict[str, Any]:
    """The content of metrics.json, as the platform's evaluator writes it.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].
        called: bool (N,), the crops whose class is atypical.
        domain: By name: bool (N,), the crops of that domain.

    Returns:
        The file's content. A domain that lacks a class has 0 as its share of that class, which halves its balanced
        accuracy, and None as ROC AUC: the evaluator gets 0 and NaN from scikit-learn, and the platform's JSON turns
        a NaN into null.

    Raises:
        DataError: The predictions are unusable, or a class is missing in all of them: the evaluator fails, too.
    """
    overall = compute_metrics(is_atypical, p_atypical, called)
    aggregates: dict[str, Any] = {f"overall_{key}": overall[key] for key in OVERALL}
    for name, rows in domain.items():
        aggregates[f"domain_{name}"] = _domain_metrics(is_atypical[rows], p_atypical[rows], called[rows])
    return {"aggregates": aggregates, "results": {}}


def _domain_metrics(is_atypical: Array, p_atypical: Array, called: Array) -> dict[str, float | None]:
    """One domain's metrics, which may lack a class."""
    if is_atypical.any() and not is_atypical.all():
        both = compute_metrics(is_atypical, p_atypical, called)
        return {key: both[key] for key in ("sensitivity", "specificity", "balanced_accuracy", "accuracy", "roc_auc")}
    sensitivity, specificity = (
        float(recall_score(is_atypical, called, pos_label=label, zero_division=0.0)) for label in (True, False)
    )
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": float((called == is_atypical).mean()),
        "roc_auc": None,
    }


def _read_truth(path: Path) -> dict[str, tuple[list[str], list[int | str]]]:
    """Labels and domains by image."""
    truth: dict[str, tuple[list[str], list[int | str]]] = {}
    for number, entry in enumerate(_read_list(path, "a list of images with their labels"), start=1):
        try:
            image, labels, domains = (entry[key] for key in ("image", "labels", "tumordomains"))
            good = isinstance(image, str) and image not in truth and set(labels) <= {*CLASS_NAMES}
            good &= isinstance(labels, list) and isinstance(domains, list)
            good &= len(labels) == len(domains) > 0 and all(isinstance(domain, int | str) for domain in domains)
        except (KeyError, TypeError):
            good = False
        if not good:
            raise DataError(
                f"entry {number} of {path} is malformed",
                got=f"{str(entry)[:120]}",
                expected=f"an image of its own, labels ({' or '.join(CLASS_NAMES)}) and as many tumordomains",
                remedy="correct the ground truth",
            )
        truth[image] = (labels, domains)
    return truth


def _read_answers(path: Path, image: str, n_pages: int) -> list[tuple[float, str]]:
    """P(atypical) and class of each page of one result."""
    answers = _read_list(path, f"the result of {image!r}")
    if len(answers) != n_pages:
        raise DataError(
            f"the result of {image!r} has another length than its ground truth",
            got=f"{len(answers)} answers",
            expected=f"{n_pages}",
            remedy="answer each page once, in page order",
        )
    for page, answer in enumerate(answers, start=1):
        known = answer.get("class") in CLASS_NAMES if isinstance(answer, dict) else False
        if not known or not isinstance(answer.get("confidence"), float) or not math.isfinite(answer["confidence"]):
            raise DataError(
                f"page {page} of the result of {image!r} fails the submission",
                got=f"{json.dumps(answer)[:120]}",
                expected="a class, normal or atypical, and a confidence that is a JSON float, as 0.0 or 1.0",
                remedy="correct what the container writes",
            )
    return [(answer["confidence"], answer["class"]) for answer in answers]


def _read_list(path: Path, expected: str) -> list[Any]:
    """A JSON list that is not empty."""
    try:
        content = read_json(path)
        if not (isinstance(content, list) and content):
            raise ValueError("an empty list" if isinstance(content, list) else f"a JSON {type(content).__name__}")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", got=error, expected=expected, remedy=RESTORE) from error
    return content


def _value(values: list[dict[str, Any]], slug: str) -> dict[str, Any]:
    """The one of a job's inputs or outputs that fills a socket."""
    return next(value for value in values if _socket(value)["slug"] == slug)


def _socket(value: dict[str, Any]) -> dict[str, Any]:
    """Its description, by the newer or the older name."""
    socket: dict[str, Any] = value.get("socket") or value["interface"]
    return socket
