"""The pooled features of a crop: what enters the layer that makes a network's logit."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from mitoscope.bundle.checks import RESTORE
from mitoscope.classify.classifier import Classifier
from mitoscope.errors import WeightsError


@contextmanager
def recorded_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Record the pooled features of every forward pass.

    Args:
        network: float (B, 3, S, S) → logits (B, 1).

    Yields:
        A list that gets a float (B, features) for each pass.

    Raises:
        WeightsError: Its last fully connected layer does not make the logit.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    if not layers or layers[-1].out_features != 1:
        raise WeightsError(
            "the network's features cannot be read",
            got=f"{layers[-1] if layers else 'no fully connected layer'} in {type(network).__name__}",
            expected="a fully connected layer with one output at the end",
            remedy=RESTORE,
        )
    recorded: list[Tensor] = []
    hook = layers[-1].register_forward_pre_hook(lambda _, inputs: recorded.append(inputs[0].detach()))
    try:
        yield recorded
    finally:
        hook.remove()


def embed(classifier: Classifier, crops: np.ndarray) -> np.ndarray:
    """Each member's pooled features: uint8 (N, 128, 128, 3) → float32 (M, N, features), of length 1."""
    with ExitStack() as stack:
        recorded = [stack.enter_context(recorded_features(member)) for member in classifier.members]
        classifier.predict_members(crops, repeatable=True)  # batches of one size
    embedded = []
    for member, passes in zip(classifier.bundle.members, recorded, strict=True):
        passed = torch.stack(passes).float()  # (passes, batch, features)
        views = passed.reshape(-1, len(member.orientations) or 1, *passed.shape[1:])
        features = views.mean(dim=1).flatten(0, 1)[: len(crops)]  # (N, features)
        embedded.append(torch.nn.functional.normalize(features, dim=1).cpu().numpy())
    return np.stack(embedded)
