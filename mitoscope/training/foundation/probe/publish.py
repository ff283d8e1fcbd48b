"""A probe as a bundle: the network that made the embeddings as the base, and a head for each fold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mitoscope.errors import DataError
from mitoscope.networks.build import name_head
from mitoscope.training.classify.members import StudyBase
from mitoscope.training.classify.publish import BASE_FILE, check_base, check_classes, write_checked
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds
from mitoscope.training.foundation.embedder import Embedder
from mitoscope.training.foundation.probe.heads import LinearHead
from mitoscope.training.foundation.probe.run import Probe, describe_probe
from mitoscope.training.foundation.probe.store import Embeddings
from mitoscope.training.foundation.weights import read_base_weights


def publish_probe(
    probe: Probe,
    data: CropData,
    folds: Folds,
    embeddings: Embeddings,
    embedder: Embedder,
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
        embedder: The network that made them.
        rule: Places the threshold, see `mitoscope.training.classify.publish.publish`.
        out: The bundle's folder.
        embed_base: Store the base in the bundle. Otherwise the manifest names it by its hash.

    Returns:
        The card's table, in Markdown.

    Raises:
        DataError: The probe is not linear, its classes are not normal and atypical, the network is another one, or the
            bundle predicts something else than the probe.
        WeightsError: The base's licence forbids to pass it on, or inference cannot read its file.
    """
    check_classes(data, probe.name)
    heads = [head for head in probe.heads if isinstance(head, LinearHead)]
    made_by = embeddings.record["made_by"]
    if len(heads) < len(probe.heads):
        raise DataError(
            f"{probe.name} cannot be published",
            got="nearest neighbours",
            expected="a logistic regression, which is a layer of a network",
            remedy="publish another --probe",
        )
    if embedder.base.sha256 != made_by["base_sha256"]:
        raise DataError(
            "the embeddings were made by other weights",
            got=f"sha256 {embedder.base.sha256}",
            expected=made_by["base_sha256"],
            remedy="name those weights with --base, or run mitoscope train embed again",
        )
    check_base(StudyBase(embedder.base, embedder.path, embedder.name), out, stored=embed_base)
    described = describe_probe(probe, data, folds, embeddings, rule, out.resolve())
    layer = name_head(embedder.network)
    states = [_state(head, layer) for head in heads]
    if not embed_base:
        return write_checked(described, states, data, folds, probe.predictions, base=embedder.path)
    base = read_base_weights(embedder.name, embedder.path)
    own = {name: tensor for name, tensor in base.items() if not name.startswith(f"{layer}.")}
    stored = replace(described, base=replace(embedder.base, file=BASE_FILE))
    return write_checked(stored, states, data, folds, probe.predictions, own)


def _state(head: LinearHead, layer: str) -> dict[str, Tensor]:
    """A head as tensors of the network's last layer."""
    weight = torch.from_numpy(head.weight.astype(np.float32))[None]
    return {f"{layer}.weight": weight, f"{layer}.bias": torch.tensor([head.bias], dtype=torch.float32)}
