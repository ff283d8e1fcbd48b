"""A probe as a bundle: the network that made the embeddings as the base, and a head for each fold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mitoscope.errors import DataError
from mitoscope.networks.build import build_network, name_head
from mitoscope.training.classify.members import StudyBase
from mitoscope.training.classify.publish import BASE_FILE, check_base, check_classes, check_name, write_checked
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds
from mitoscope.training.foundation.probe.heads import LinearHead, ProbeSettings
from mitoscope.training.foundation.probe.run import Probe, describe_probe
from mitoscope.training.foundation.probe.store import Embeddings


def find_probe_base(
    name: str,
    settings: ProbeSettings,
    data: CropData,
    embeddings: Embeddings,
    base: Path | None,
    out: Path,
    *,
    embed_base: bool,
) -> StudyBase:
    """Find the network that made the embeddings, and refuse what cannot be published, before anything is fitted.

    Args:
        name: The probe's.
        settings: The probe's.
        data: The crops.
        embeddings: Of the crops.
        base: The network's weights, see `mitoscope.training.bases.weights.find_weights`.
        out: The bundle's folder.
        embed_base: Whether the bundle is to hold the weights.

    Raises:
        DataError: The probe is not linear, its classes are not normal and atypical, the weights are others, or the
            folder's name cannot be a bundle's.
        WeightsError: The base's licence forbids to pass it on, or inference cannot read its file.
    """
    check_classes(data, name)
    check_name(out)
    if settings.kind == "knn":
        raise DataError(
            f"{name} cannot be published",
            got="nearest neighbours",
            expected="a logistic regression, which is a layer of a network",
            remedy="publish another --probe",
        )
    made_by = embeddings.record["made_by"]
    found = StudyBase.find(made_by["network"], base)
    if found.base.sha256 != made_by["base_sha256"]:
        raise DataError(
            "the embeddings were made by other weights",
            got=f"sha256 {found.base.sha256} of {found.path}",
            expected=made_by["base_sha256"],
            remedy="name those weights with --base, or run mitoscope train embed again",
        )
    check_base(found, out, stored=embed_base)
    return found


def publish_probe(
    probe: Probe,
    data: CropData,
    folds: Folds,
    embeddings: Embeddings,
    base: StudyBase,
    rule: str,
    out: Path,
    *,
    embed_base: bool = False,
) -> str:
    """Write a bundle that inference runs, and its card.

    Args:
        probe: Logistic regressions, fitted on these data.
        data: The crops.
        folds: The split.
        embeddings: Of the crops.
        base: As `find_probe_base` returns it.
        rule: Places the threshold, see `mitoscope.training.classify.publish.publish`.
        out: The bundle's folder.
        embed_base: Store the base in the bundle. Otherwise the manifest names it by its hash.

    Returns:
        The card's table, in Markdown.

    Raises:
        DataError: The bundle predicts something else than the probe.
    """
    out = out.resolve()  # "." has no name
    described = describe_probe(probe, data, folds, embeddings, rule, out.name, out)
    with torch.device("meta"):
        layer = name_head(build_network(base.name, described.input.size_px))
    states = [_state(head, layer) for head in probe.heads if isinstance(head, LinearHead)]
    if not embed_base:
        return write_checked(described, states, data, folds, probe.predictions, base=base.path)
    own = {name: tensor for name, tensor in base.read().items() if not name.startswith(f"{layer}.")}
    stored = replace(described, base=replace(base.base, file=BASE_FILE))
    return write_checked(stored, states, data, folds, probe.predictions, own)


def _state(head: LinearHead, layer: str) -> dict[str, Tensor]:
    """A head as tensors of the network's last layer."""
    weight = torch.from_numpy(head.weight.astype(np.float32))[None]
    return {f"{layer}.weight": weight, f"{layer}.bias": torch.tensor([head.bias], dtype=torch.float32)}
