"""How far the probabilities move when the crops are changed in ways that a pathologist would look past."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from model.bundle import MANIFEST
from model.contract import CLASS_NAMES
from model.ensemble import Ensemble
from model.errors import DataError
from scoring.files import hash_file, write_json, write_text
from scoring.listing import Listing, open_listing, read_blocks
from scoring.markdown import render_share, render_table
from scoring.metrics import figures
from scoring.perturb import Perturbation, list_perturbations
from scoring.plots.style import PALETTE, STYLE, WIDTH_IN, save_picture
from scoring.predict import predict_block
from scoring.provenance import describe_code, describe_machine
from scoring.tables import BY_FOLDER, find_labels, join_labels, read_labels

ACCURACY = ("roc_auc", "balanced_accuracy")
BLOCK = 256  # crops in memory at once


def stress(
    paths: list[Path], out: Path, *, weights: Path | None = None, device: str = "auto", labels: str | None = None
) -> str:
    """Score crops as they are and under every perturbation of `scoring.perturb`.

    Args:
        paths: See `scoring.listing.open_listing`.
        out: A folder for stress.json, stress.md and stress.svg.
        weights: A bundle's folder; None: see `model.bundle.find_bundle`.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        labels: See `scoring.tables.find_labels`; with them, ROC AUC and balanced accuracy are told too.

    Returns:
        The table, in Markdown.

    Raises:
        MitosisError: A crop cannot be read, or lacks a label.
    """
    ensemble = Ensemble.load(weights, device=device)
    if labels not in (None, BY_FOLDER):
        read_labels(Path(labels))  # a fault is told before hours are spent
    perturbations = list(list_perturbations())
    with open_listing(paths) as listing:
        image_ids, p_plain, p_perturbed = _predict(ensemble, listing, perturbations)
    is_atypical = None
    if labels:
        crops = pd.DataFrame({"image_id": image_ids})
        is_atypical = (join_labels(crops, find_labels(labels, crops["image_id"]))["label"] == CLASS_NAMES[1]).to_numpy()
    threshold = ensemble.bundle.threshold.value
    plain = {} if is_atypical is None else figures(is_atypical, p_plain, threshold)
    rows = [
        {"kind": step.kind, "strength": step.strength, "unit": step.unit, **_judge(p_plain, p, threshold, is_atypical)}
        for step, p in zip(perturbations, p_perturbed, strict=True)
    ]
    table = _render(rows, plain, len(image_ids))
    record = {
        **describe_code(),
        "machine": describe_machine(),
        "bundle": {
            "name": ensemble.bundle.name,
            "manifest_sha256": hash_file(ensemble.bundle.folder / MANIFEST),
        },
        "listing_sha256": listing.sha256,
        "device": f"{ensemble.device.type} {ensemble.precision}",
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
    ensemble: Ensemble, listing: Listing, perturbations: Sequence[Perturbation]
) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Names, float64 (N,), and for each perturbation float64 (variants, N)."""
    image_ids: list[str] = []
    plain: list[np.ndarray] = []
    perturbed: list[list[np.ndarray]] = [[] for _ in perturbations]
    with tqdm(total=listing.n_files, unit=" files", disable=None) as bar:
        for block in read_blocks(listing, BLOCK):
            if block.unreadable:
                name, reason = block.unreadable[0]
                raise DataError(
                    f"{len(block.unreadable)} files cannot be read",
                    got=f"{name}: {reason}",
                    expected="whole crops",
                    remedy="predict lists all of them",
                )
            image_ids += block.image_ids
            plain.append(predict_block(ensemble, block.crops).mean(axis=0))
            for step, told in zip(perturbations, perturbed, strict=True):
                told.append(np.stack([predict_block(ensemble, v(block.crops)).mean(axis=0) for v in step.variants]))
            bar.update(block.n_files)
    return image_ids, np.concatenate(plain), [np.concatenate(told, axis=1) for told in perturbed]


def _judge(
    p_plain: np.ndarray, p_perturbed: np.ndarray, threshold: float, is_atypical: np.ndarray | None
) -> dict[str, float]:
    """What one perturbation does, over all its variants; p_plain (N,), p_perturbed (variants, N)."""
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
    judged = [figures(is_atypical, p, threshold) for p in p_perturbed]
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
    return f"{n_crops:,} crops; p is P(atypical), the mean of the members.\n\n{render_table(head, lines)}\n"


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
