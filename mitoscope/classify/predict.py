"""Crops in bulk → predictions.csv and the record beside it, whole or not at all."""

import csv
import hashlib
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from mitoscope.bundle.read import MANIFEST
from mitoscope.classify.classifier import FORWARD_CROPS, Classifier
from mitoscope.classify.listing import Block, Listing, list_crops, read_blocks
from mitoscope.classify.shards import (
    FILES,
    UNREADABLE_CODE,
    check_shard,
    draft,
    is_finished,
    print_result,
    unreadable_of,
)
from mitoscope.classify.tables import DECIMALS, PREDICTION_COLUMNS
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import one_line
from mitoscope.files import hash_file
from mitoscope.images.crops import count_greyscale
from mitoscope.memory import keep_freed_memory
from mitoscope.progress import progress
from mitoscope.provenance import describe_machine, hash_code, list_versions, read_commit


def predict(
    paths: list[Path],
    out: Path,
    *,
    weights: Path | None = None,
    base: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    prevalence: float | None = None,
    shard: tuple[int, int] = (1, 1),
    batch_size: int = 256,
    strict: bool = True,
) -> int:
    """Score crops in bulk.

    Args:
        paths: See `mitoscope.classify.listing.list_crops`.
        out: predictions.csv, replaced if it is there; its record is written beside it (`shards`). A prediction
            that is there already, by the same weights and code, of the same files that were not touched since, is left
            as it is.
        weights: A bundle's folder; None: see `mitoscope.bundle.find.find_bundle`.
        base: The base network of a bundle of adapters that does not hold it.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"auto"``, ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        prevalence: The share of atypical figures where the crops come from, from 0.001 to 0.999; see `set_prevalence`.
        shard: (i, N): of the files, in order, the i-th of N parts of equal size, i from 1 on.
        batch_size: Crops held in memory at once, rounded up to whole forward passes; does not change the result.
        strict: Write nothing when a file cannot be read. Otherwise the rest is written, and OUT.unreadable.csv lists
            image_id and reason of those that could not.

    Returns:
        0, or `UNREADABLE_CODE` when files could not be read; each is named on stderr.

    Raises:
        MitoscopeError: Anything else that outside data can cause. Nothing has then been written.
    """
    keep_freed_memory()
    listing = list_crops(paths)
    with draft(out) as new:
        classifier = Classifier.load(weights, device=device, precision=precision, base=base, prevalence=prevalence)
        mark = {**_mark(listing, classifier, shard), "prevalence": prevalence}
        if is_finished(out, mark):
            print(f"{out} is finished: nothing to do")
            return UNREADABLE_CODE if unreadable_of(out).is_file() else 0
        check_shard(out, mark)
        first, last = ((number * listing.n_files) // shard[1] for number in (shard[0] - 1, shard[0]))
        if listing.n_others:
            print(f"skipped {listing.n_others:,} files that are hidden or no images by their names")
        where = f"{classifier.device.type} {classifier.precision}"
        print(f"scoring {last - first:,} files: {classifier.bundle.name}, {where}", flush=True)
        at_once = FORWARD_CROPS[classifier.device.type]
        blocks = read_blocks(listing, -(-batch_size // at_once) * at_once, first, last)
        with (
            new.scores.open("w", newline="", encoding="utf-8") as scores,
            new.unreadable.open("w", newline="", encoding="utf-8") as reasons,
        ):
            tally, pixels = _score(classifier, blocks, (scores, reasons), last - first, strict)
        if tally.n_unreadable and strict:
            print(f"error: {tally.n_unreadable:,} of {last - first:,} files cannot be read, see above: nothing "
                  "was written; correct them, or score the others with --no-strict", file=sys.stderr)  # fmt: skip
            return UNREADABLE_CODE
        new.keep({**mark, "crops": {**asdict(tally), "pixels_sha256": [pixels]}})
    return print_result(out, tally.n_crops, tally.n_greyscale, tally.n_unreadable)


def encode_rows(image_ids: list[str], p_members: np.ndarray, classifier: Classifier) -> list[list[str]]:
    """The rows of predictions.csv: image_id, p_atypical, class and the members, calibrated, rounded to `DECIMALS`.

    The class follows from the unrounded probability: another prevalence moves probability and threshold alike, and
    would change classes if it were rounded first. A probability that rounding moves across the threshold is rounded
    the other way, so that the file does not contradict itself.
    """
    p_atypical = classifier.combine(p_members)
    atypical = p_atypical >= classifier.threshold
    p_written = _round_beside(p_atypical, classifier.threshold)
    return [
        [image_id, _digits(p), CLASS_NAMES[int(called)], *map(_digits, members)]
        for image_id, p, called, members in zip(
            image_ids, p_written, atypical, classifier.calibrate(p_members).T, strict=True
        )
    ]


def _round_beside(p: np.ndarray, threshold: float) -> np.ndarray:
    """Round to `DECIMALS`, each probability on its own side of the threshold."""
    unit = 10**DECIMALS
    near = math.ceil(threshold * unit)
    lowest = next(k for k in (near - 1, near, near + 1) if k / unit >= threshold)  # that is at the threshold or above
    rounded = p.round(DECIMALS)
    beside: np.ndarray = np.where(
        p >= threshold, np.maximum(rounded, lowest / unit), np.minimum(rounded, (lowest - 1) / unit)
    )
    return beside


def _digits(p: float) -> str:
    """A probability as the file states it."""
    return f"{p:.{DECIMALS}f}"


def _mark(listing: Listing, classifier: Classifier, shard: tuple[int, int]) -> dict[str, Any]:
    """What decides a prediction to the byte: crops, weights, code and machine."""
    return {
        "shard": list(shard),
        "listing": {"files": listing.n_files, "sha256": listing.sha256},
        FILES: listing.files_sha256,
        "bundle": {
            "name": classifier.bundle.name,
            "manifest_sha256": hash_file(classifier.bundle.folder / MANIFEST),
            "threshold": classifier.bundle.threshold.value,
            "rule": classifier.bundle.threshold.rule,
        },
        "device": classifier.device.type,
        "precision": classifier.precision,
        "decimals": DECIMALS,
        "commit": read_commit(),
        "code_sha256": hash_code(),
        "versions": list_versions("torch", "timm", "numpy"),
        "machines": [describe_machine()],
    }


@dataclass
class _Tally:
    """What a part held."""

    n_crops: int = 0
    n_greyscale: int = 0
    n_unreadable: int = 0


def _score(
    classifier: Classifier, blocks: Iterator[Block], files: tuple[TextIO, TextIO], n_files: int, strict: bool
) -> tuple[_Tally, str]:
    """Write the rows of both files; returns what was found and the SHA-256 of all pixels."""
    scores, reasons = (csv.writer(file, lineterminator="\n") for file in files)
    scores.writerow([*PREDICTION_COLUMNS, *(f"member_{k}" for k in range(len(classifier.bundle.members)))])
    reasons.writerow(["image_id", "reason"])
    tally, pixels = _Tally(), hashlib.sha256()
    with progress(n_files, unit="files", what="scoring") as bar:
        for block in blocks:
            for image_id, reason in block.unreadable:
                reasons.writerow([image_id, reason])
                bar.note(one_line(f"unreadable: {image_id}: {reason}"))
            tally.n_crops += len(block.image_ids)
            tally.n_greyscale += count_greyscale(block.crops)
            tally.n_unreadable += len(block.unreadable)
            pixels.update(block.crops.tobytes())
            if block.image_ids and not (strict and tally.n_unreadable):
                p_members = classifier.predict_members(block.crops, repeatable=True)
                scores.writerows(encode_rows(block.image_ids, p_members, classifier))
            bar.update(block.n_files)
    return tally, pixels.hexdigest()
