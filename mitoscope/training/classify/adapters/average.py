"""A moving average of what is trained, for networks whose largest part is frozen."""

from copy import deepcopy

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn


class TrainedAverage(nn.Module):
    """Averages as timm's ModelEmaV3 does, with its warm-up; frozen parameters are shared with the network, not copied.

    Attributes:
        module: The network with the averaged parameters, in evaluation mode.

    Args:
        network: In training; which parameters are trained is read when this is made.
        decay: See `FitConfig`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        frozen = {id(parameter): parameter for parameter in network.parameters() if not parameter.requires_grad}
        self.module = deepcopy(network, frozen).eval()  # what deepcopy finds in its memo it does not copy
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average after a step, counted from 1."""
        past = max(0, step - 1)
        decay = min(1 - (1 + past) ** (-2 / 3), self.decay) if past else 0.0
        for average, current in zip(self.module.parameters(), network.parameters(), strict=True):
            if current.requires_grad:
                average.lerp_(current, 1 - decay)


def make_average(network: nn.Module, decay: float) -> ModelEmaV3 | TrainedAverage:
    """The average of a network in training: of all tensors, if all parameters are trained."""
    if all(parameter.requires_grad for parameter in network.parameters()):
        return ModelEmaV3(network, decay=decay, use_warmup=True)
    return TrainedAverage(network, decay)
