"""A probe as a bundle: the network that made the embeddings as the base, and a head for each fold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mitoscope.bundle.manifest import Base
from mitoscope.errors import DataError
from mitoscope.networks.foundation import may_be_passed_on
from mitoscope.training.classify.publish import write_checked
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds
from mitoscope.training.foundation.embedder import Embedder
from mitoscope.training.foundation.probe.heads import LinearHead
from mitoscope.training.foundation.probe.run import Probe, describe_probe
from mitoscope.training.foundation.probe.store import Embeddings
from mitoscope.training.foundation.weights import read_base_weights

BASE_FILE = "base.safetensors"


def publish_probe(
    probe: Probe, data: CropData, folds: Folds, embeddings: Embeddings, embedder: Embedder, rule: str, out: Path
) -> str:
    """Write a bundle that inference runs, and its card.

    The base is stored in it if its licence lets it be passed on; otherwise the user gives it (``--base``).

    Args:
        probe: Logistic regressions, fitted on these data.
        data: The crops.
        folds: The split.
        embeddings: Of the crops.
        embedder: The network that made them.
        rule: Places the threshold, see `mitoscope.training.classify.publish.publish`.
        out: The bundle's folder.

    Returns:
        The card's table, in Markdown.

    Raises:
        DataError: The probe is not linear, the network is another one, or the bundle predicts something else than the
            probe.
    """
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
    described = describe_probe(probe, data, folds, embeddings, rule, out.resolve())
    layer = _head_name(embedder)
    states = [_state(head, layer) for head in heads]
    if not may_be_passed_on(embedder.base.licence):
        return write_checked(described, states, data, folds, probe.predictions, base=embedder.path)
    base = read_base_weights(embedder.name, embedder.path)
    own = {name: tensor for name, tensor in base.items() if not name.startswith(f"{layer}.")}
    stored = replace(described, base=Base("", embedder.base.licence, BASE_FILE, embedder.base.name))
    return write_checked(stored, states, data, folds, probe.predictions, own)


def _head_name(embedder: Embedder) -> str:
    """The name of the layer that makes the logit."""
    head = embedder.network.get_classifier()  # type: ignore[operator]  # every timm network has it
    (name,) = (str(name) for name, module in embedder.network.named_modules() if module is head)
    return name


def _state(head: LinearHead, layer: str) -> dict[str, Tensor]:
    """A head as tensors of the network's last layer."""
    weight = torch.from_numpy(head.weight.astype(np.float32))[None]
    return {f"{layer}.weight": weight, f"{layer}.bias": torch.tensor([head.bias], dtype=torch.float32)}
