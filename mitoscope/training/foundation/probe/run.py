"""One probe on five folds: out-of-fold predictions, what five heads say of each hold-out, metrics and pictures."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitoscope.bundle.manifest import Base, Bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.progress import progress
from mitoscope.provenance import list_versions, read_commit
from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.plots import plot_roc_curves
from mitoscope.scoring.plots.style import delete_pictures
from mitoscope.training.bases.weights import find_source
from mitoscope.training.classify.evaluate import summarise, write_results
from mitoscope.training.classify.members import describe_bundle
from mitoscope.training.classify.out_of_fold import OutOfFold
from mitoscope.training.classify.tables import Results, render_overview, render_rules, render_table_2
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds
from mitoscope.training.foundation.probe.heads import Head, LinearHead, ProbeSettings, Split, fit_head
from mitoscope.training.foundation.probe.store import Embeddings
from mitoscope.training.study.study import Study


@dataclass(frozen=True)
class Probe:
    """A probe that was fitted on each of five folds.

    Attributes:
        name: In `mitoscope.training.foundation.probe.heads.PROBES`.
        settings: How.
        heads: One for each fold, which it never saw.
        predictions: Of the folds, each by its own head; before calibration.
        p_held_out: Of each hold-out's crops, float64 (5, N), by its name; before calibration.
    """

    name: str
    settings: ProbeSettings
    heads: tuple[Head, ...]
    predictions: OutOfFold
    p_held_out: dict[str, np.ndarray]


def fit_probe(name: str, settings: ProbeSettings, data: CropData, folds: Folds, embeddings: Embeddings) -> Probe:
    """Fit a probe on each fold's four others; where C is chosen, each of these is validated by the three others."""
    values, positive = embeddings.values, data.is_atypical
    parts = [data.rows_of(list(ids)) for ids in folds.folds]
    heads: list[Head] = []
    with progress(len(parts), unit="folds", what=name) as bar:
        for number in range(len(parts)):
            others = [part for k, part in enumerate(parts) if k != number]
            heads.append(fit_head(settings, values, positive, np.concatenate(others), _inner_splits(others)))
            bar.update()
    predicted = [head.predict(values[part]) for head, part in zip(heads, parts, strict=True)]
    rows = np.concatenate(parts)
    fold = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    held_out = {name: data.rows_of(list(ids)) for name, ids in folds.held_out.items()}
    return Probe(
        name=name,
        settings=settings,
        heads=tuple(heads),
        predictions=OutOfFold(rows, fold, positive[rows], np.concatenate(predicted)),
        p_held_out={what: np.stack([head.predict(values[part]) for head in heads]) for what, part in held_out.items()},
    )


def _inner_splits(parts: list[np.ndarray]) -> list[Split]:
    """Each part once to be scored, the others to fit on."""
    return [(np.concatenate([p for k, p in enumerate(parts) if k != n]), part) for n, part in enumerate(parts)]


def describe_probe(
    probe: Probe, data: CropData, folds: Folds, embeddings: Embeddings, rule: str, name: str, out: Path
) -> Bundle:
    """The manifest of a probe's bundle: heads on the network that made the embeddings; nothing is written.

    Args:
        probe: Fitted on these data.
        data: The crops.
        folds: The split.
        embeddings: Of the crops.
        rule: See `mitoscope.training.classify.members.describe_bundle`.
        name: The bundle's, after the architecture's.
        out: Its folder.
    """
    made_by = embeddings.record["made_by"]
    config = {
        "task": data.task,
        "architecture": made_by["network"],
        "pretrained": True,
        "input": made_by["input"],
        "probe": asdict(probe.settings),
        "c": [head.c for head in probe.heads if isinstance(head, LinearHead)],
    }
    record = {
        "config": config,
        "commits": [read_commit()],
        "fold_seconds": [],
        "members": len(probe.heads),
    }
    bundle = describe_bundle(Study(out, record, data, folds), probe.predictions, rule, name, out)
    seen = tuple(range(made_by["orientations"]))
    members = tuple(replace(member, kind="adapter", orientations=seen) for member in bundle.members)
    base = Base(made_by["base_sha256"], made_by["licence"], name=find_source(made_by["network"]))
    return replace(bundle, members=members, base=base)


def evaluate_probes(
    probes: list[Probe], data: CropData, folds: Folds, embeddings: Embeddings, rule: str, out: Path
) -> str:
    """The metrics of probes side by side: figures.json, tables.md, and for each hold-out a picture of ROC curves.

    Returns:
        The tables, in Markdown.
    """
    results: dict[str, Results] = {}
    curves: dict[str, list[Group]] = {}
    for probe in probes:
        bundle = describe_probe(probe, data, folds, embeddings, rule, probe.name, out)
        classifier = Classifier(bundle, (), torch.device("cpu"), "fp32")  # its networks are the embeddings
        results[probe.name] = summarise(data, folds, classifier, probe.predictions, probe.p_held_out) | {
            "device": embeddings.record["made_by"]["precision"],
            "probe": asdict(probe.settings) | {"c_of_folds": bundle.training["config"]["c"]},
        }
        for what, p_members in probe.p_held_out.items():
            rows = data.rows_of(list(folds.held_out[what]))
            case = data.table["case"].iloc[rows].to_numpy()
            p = classifier.combine(p_members)
            group = Group.at_threshold(probe.name, data.is_atypical[rows], p, classifier.threshold, case)
            curves.setdefault(what, []).append(group)
    tables = render_overview(results)
    for what in folds.held_out:
        held_out = {name: found["held_out"][what] for name, found in results.items()}
        tables += f"\n## {what}\n\n{render_table_2(held_out)}\n{render_rules(held_out)}"
    more: dict[str, Any] = {
        "embeddings": embeddings.record,
        "versions": list_versions("scikit-learn", "numpy", "torch"),
    }
    write_results(out, results, tables, more)
    delete_pictures(out, "roc")
    for number, groups in enumerate(curves.values()):
        if not all(group.is_one_case for group in groups):
            plot_roc_curves(groups, out / f"roc-{number + 1}.svg")
    return tables
