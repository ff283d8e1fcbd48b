"""predictions.csv and its crops → one HTML file that a pathologist can open: metrics above, every crop below."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from mitoscope.bundle.find import find_bundle
from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.read import MANIFEST, read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.tables import describe_predictions, find_threshold, member_columns, read_predictions
from mitoscope.errors import DataError
from mitoscope.files import check_file, hash_file, write_text
from mitoscope.provenance import read_commit
from mitoscope.scoring.labels import LabelSource, join_labels
from mitoscope.scoring.metrics.judge import judge, make_groups
from mitoscope.scoring.report.gallery import page_data, read_pictures
from mitoscope.scoring.report.overview import (
    count_crops,
    count_outcomes,
    describe_intervals,
    describe_metrics,
    make_histogram,
)
from mitoscope.scoring.report.page import render
from mitoscope.scoring.report.pictures import embed_pictures
from mitoscope.scoring.report.saliency import Saliency

SEED = 0  # of the intervals, as evaluate's


def report(
    predictions_csv: Path,
    crops: Sequence[Path],
    out: Path,
    *,
    labels: LabelSource | None = None,
    weights: Path | None = None,
    base: Path | None = None,
    device: str = "auto",
    saliency: bool = True,
) -> None:
    """Write the report; print how many crops are not in it.

    Args:
        predictions_csv: Written by `mitoscope.classify.predict.predict`, or a table like it.
        crops: Where they lie, see `list_crops`; the names must be those of the predictions.
        out: The HTML file; replaced if it is there. The same input gives the same bytes.
        labels: Where the labels are; None: there are none.
        weights: The bundle that predicted; None: see `mitoscope.bundle.find.find_bundle`.
        base: The base network of a bundle of adapters that does not hold it.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``: where the maps are computed, in fp32.
        saliency: Draw what the networks looked at, for every crop.

    Raises:
        MitoscopeError: A table, crop or bundle is unusable, a prediction has no crop, or another bundle predicted.
    """
    check_file(out)
    table = read_predictions(predictions_csv)
    origin = describe_predictions(predictions_csv)
    threshold = find_threshold(table, origin["record"])
    if threshold is None:
        raise DataError(
            f"no threshold explains the classes of {predictions_csv}",
            got="a normal crop with a higher p_atypical than an atypical one",
            expected="atypical from one threshold on, else normal",
            remedy="classify again, or correct the classes",
        )
    if labels:
        table = join_labels(table, labels.read(table["image_id"]))
    bundle = read_bundle(find_bundle(weights))
    _check_bundle(bundle, origin)
    maker = Saliency(Classifier.load(bundle.folder, device=device, precision="fp32", base=base)) if saliency else None
    pictures = read_pictures(crops, table["image_id"].tolist(), maker, bundle.training_crops)
    if pictures.n_others:
        print(f"skipped {pictures.n_others:,} crops without a prediction")
    frame_px = bundle.input.crop_px if saliency or origin["record"] else None
    words = {
        "scored": ", ".join(path.resolve().name for path in crops),
        "threshold": threshold,
        "saliency": saliency,
        "frame_px": frame_px,
        "unlike": pictures.unlike is not None,
        "has_mitosis": False,
        "has_domains": "domain" in table and bool(table["domain"].notna().any()),
        "n_members": len(member_columns(table)),
        **_describe_origin(bundle, origin, labels, saliency),
        **_describe_table(table, threshold, pictures.unlike),
    }
    write_text(out, render(page_data(table, pictures, threshold, frame_px), words))


def _check_bundle(bundle: Bundle, origin: Mapping[str, Any]) -> None:
    """Refuse a bundle that did not predict, if that can be known."""
    made = (origin["record"] or {}).get("bundle", {})
    digest = hash_file(bundle.folder / MANIFEST)
    if made.get("manifest_sha256", digest) != digest:
        raise DataError(
            f"{origin['name']} was predicted by another bundle",
            got=f"{bundle.name} with the manifest {digest[:12]}…",
            expected=f"{made.get('name')} with {made['manifest_sha256'][:12]}…",
            remedy="give the bundle that predicted after --weights",
        )


def _describe_origin(
    bundle: Bundle, origin: Mapping[str, Any], labels: LabelSource | None, saliency: bool
) -> dict[str, Any]:
    """Weights, rule and versions for the page; the same on every day and in every folder."""
    rows = [("predictions", f"{origin['name']}, sha256 {origin['sha256']}")]
    rule, record = "from the classes: there is no record beside the predictions", origin["record"]
    if labels:
        known = labels.describe()
        rows.append(("labels", f"{known['name']}, sha256 {known['sha256']}" if known["sha256"] else known["name"]))
    if record:
        made, fitted = record["bundle"], bundle.threshold
        rule = f"{fitted.rule}, fitted on {fitted.n_crops:,} {fitted.fitted_on} predictions"
        rows += [
            ("weights", f"{bundle.name} ({bundle.architecture}), manifest sha256 {made.get('manifest_sha256')}"),
            ("predicted on", f"{record.get('device')}, {record.get('precision')}"),
            ("predicted with", ", ".join(f"{package} {number}" for package, number in record["versions"].items())),
            ("predicted by code", str(record.get("commit"))),
        ]
    drawn = f"Grad-CAM of {bundle.name} by captum {version('captum')}, mean of the networks"
    rows += [("saliency", drawn if saliency else "left out (--no-saliency)"), ("report by code", read_commit())]
    trained_on = ", ".join(str(data["name"]) for data in bundle.training.get("data", []))
    return {
        "trained_on": trained_on,
        "bundle": bundle.name if record else None,
        "drawn_by": bundle.name,
        "rule": rule,
        "provenance": rows,
    }


def _describe_table(
    table: pd.DataFrame, threshold: float, unlike: Mapping[str, Sequence[str]] | None
) -> dict[str, Any]:
    """The summary for the page."""
    words = {
        "counts": count_crops(table, threshold, unlike),
        "histogram": make_histogram(table),
        **dict.fromkeys(("metrics", "interval_note", "outcomes", "domains", "pictures")),
    }
    if "label" in table:
        pooled, domains = make_groups(table, threshold, SEED)
        judged = judge(table, pooled, domains)
        words |= {
            "metrics": describe_metrics(judged["pooled"]),
            "interval_note": describe_intervals(judged["pooled"]["intervals"]),
            "outcomes": count_outcomes(table),
            "domains": [
                {"name": name, **domain, "metrics": describe_metrics(domain)}
                for name, domain in judged["domains"].items()
            ],
            "pictures": embed_pictures(pooled),
        }
    return words
