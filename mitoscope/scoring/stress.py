"""How far the probabilities move when crops are changed in ways that a pathologist would ignore."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mitoscope.bundle.read import MANIFEST
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.listing import Listing, list_crops, read_blocks
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DataError
from mitoscope.files import hash_file, write_json, write_text
from mitoscope.markdown import render_share, render_table
from mitoscope.progress import progress
from mitoscope.provenance import describe_code, describe_machine
from mitoscope.scoring.labels import LabelSource, join_labels
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.perturb import Perturbation, list_perturbations
from mitoscope.scoring.plots.style import PALETTE, STYLE, WIDTH_IN, save_picture
from mitoscope.scoring.predictions import call_atypical

ACCURACY = ("roc_auc", "balanced_accuracy")
BLOCK = 256  # crops in memory at once


def stress(
    paths: list[Path],
    out: Path,
    *,
    weights: Path | None = None,
    base: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    labels: LabelSource | None = None,
) -> str:
    """Score crops as they are and under every perturbation of `mitoscope.scoring.perturb`.

    Args:
        paths: See `mitoscope.classify.listing.list_crops`.
        out: A folder for stress.json, stress.md and stress.svg.
        weights: A bundle's folder; None: see `mitoscope.bundle.find.find_bundle`.
        base: The base network of a bundle of adapters that does not hold it.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"auto"``, ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        labels: Where the labels are; with them, ROC AUC and balanced accuracy are reported too.

    Returns:
        The table, in Markdown.

    Raises:
        MitoscopeError: A crop cannot be read, or lacks a label.
    """
    classifier = Classifier.load(weights, device=device, precision=precision, base=base)
    if labels:
        labels.check()
    perturbations = list(list_perturbations())
    listing = list_crops(paths)
    image_ids, p_plain, p_perturbed = _predict(classifier, listing, perturbations)
    is_atypical = None
    if labels:
        crops = pd.DataFrame({"image_id": image_ids})
        is_atypical = (join_labels(crops, labels.read(crops["image_id"]))["label"] == CLASS_NAMES[1]).to_numpy()
    threshold = classifier.bundle.threshold.value
    plain = {} if is_atypical is None else compute_metrics(is_atypical, p_plain, call_atypical(p_plain, threshold))
    rows = [
        {"kind": step.kind, "strength": step.strength, "unit": step.unit, **_judge(p_plain, p, threshold, is_atypical)}
        for step, p in zip(perturbations, p_perturbed, strict=True)
    ]
    table = _render(rows, plain, len(image_ids))
    record = {
        **describe_code(),
        "machine": describe_machine(),
        "bundle": {
            "name": classifier.bundle.name,
            "manifest_sha256": hash_file(classifier.bundle.folder / MANIFEST),
        },
        "listing_sha256": listing.sha256,
        "device": f"{classifier.device.type} {classifier.precision}",
        "threshold": threshold,
        "n_crops": len(image_ids),
        "unchanged": plain,
        "perturbations": rows,
    }
    write_json(out / "stress.json", record)
    write_text(out / "stress.md", table)
    _plot(rows, out / "stress.svg")
    return table


def _predict(
    classifier: Classifier, listing: Listing, perturbations: Sequence[Perturbation]
) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Names, float64 (N,), and for each perturbation float64 (variants, N)."""

    def predict(crops: np.ndarray) -> np.ndarray:
        return classifier.combine(classifier.predict_members(crops, repeatable=True))

    image_ids: list[str] = []
    plain: list[np.ndarray] = []
    perturbed: list[list[np.ndarray]] = [[] for _ in perturbations]
    with progress(listing.n_files, unit="files", what="scoring changed crops") as bar:
        for block in read_blocks(listing, BLOCK):
            if block.unreadable:
                name, reason = block.unreadable[0]
                raise DataError(
                    f"{len(block.unreadable)} files cannot be read",
                    got=f"{name}: {reason}",
                    expected="whole crops",
                    remedy="run mitoscope classify, which lists all of them",
                )
            image_ids += block.image_ids
            plain.append(predict(block.crops))
            for step, found in zip(perturbations, perturbed, strict=True):
                found.append(np.stack([predict(v(block.crops)) for v in step.variants]))
            bar.update(block.n_files)
    return image_ids, np.concatenate(plain), [np.concatenate(found, axis=1) for found in perturbed]


def _judge(
    p_plain: np.ndarray, p_perturbed: np.ndarray, threshold: float, is_atypical: np.ndarray | None
) -> dict[str, float]:
    """The effect of one perturbation, over all its variants; p_plain (N,), p_perturbed (variants, N)."""
    change = np.abs(p_perturbed - p_plain)
    moved = {
        "mean_change": float(change.mean()),
        "p95_change": float(np.percentile(change, 95)),
        "max_change": float(change.max()),
        "mean_shift": float((p_perturbed - p_plain).mean()),
        "flipped": float(((p_perturbed >= threshold) != (p_plain >= threshold)).mean()),
    }
    if is_atypical is None:
        return moved
    judged = [compute_metrics(is_atypical, p, call_atypical(p, threshold)) for p in p_perturbed]
    return moved | {name: float(np.mean([j[name] for j in judged])) for name in ACCURACY}


def _render(rows: Sequence[dict[str, Any]], plain: dict[str, float], n_crops: int) -> str:
    """The table."""
    head = ["change", "strength", "mean change of p", "95th percentile", "largest", "mean shift", "classes flipped"]
    head += ["ROC AUC", "balanced accuracy"] if plain else []
    lines = []
    if plain:
        lines.append(["none", *[""] * 6, *(render_share(plain[key]) for key in ACCURACY)])
    for row in rows:
        changes = [render_share(row[key]) for key in ("mean_change", "p95_change", "max_change")]
        flips = [f"{row['mean_shift']:+.3f}", f"{100 * row['flipped']:.1f} %"]
        shares = [render_share(row[key]) for key in ACCURACY] if plain else []
        lines.append([row["kind"], _strength(row), *changes, *flips, *shares])
    return f"{n_crops:,} crops; p is P(atypical).\n\n{render_table(head, lines)}\n"


def _strength(row: dict[str, Any]) -> str:
    """A strength with its unit."""
    sign = "+" if row["unit"] == "%" else ""
    return f"{row['strength']:{sign}g} {row['unit']}"


def _plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """One panel a kind: the share of classes that flip, and the mean change of the probability."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    highest = max(max(row["flipped"], row["mean_change"]) for row in rows) * 1.1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2 * WIDTH_IN, WIDTH_IN), layout="constrained")
        panels = figure.subplots(2, -(-len(kinds) // 2), sharey=True).flatten()
        for axes, kind in zip(panels, kinds, strict=False):
            own = [row for row in rows if row["kind"] == kind]
            places = range(len(own))
            axes.plot(places, [row["flipped"] for row in own], marker="o", markersize=3, color=PALETTE[1],
                      label="share of classes flipped")  # fmt: skip
            axes.plot(places, [row["mean_change"] for row in own], marker="s", markersize=3, color=PALETTE[0],
                      linestyle="--", label="mean change of P(atypical)")  # fmt: skip
            axes.set_xticks(places, [f"{row['strength']:g}" for row in own])
            axes.set(title=kind, xlabel=own[0]["unit"], ylim=(0, highest))
        for axes in panels[len(kinds) :]:
            axes.set_axis_off()
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
        save_picture(figure, path)
