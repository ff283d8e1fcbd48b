"""The pooled features of a crop: what enters the layer that makes a network's logit."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mitoscope.bundle.checks import RESTORE
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
