"""What a task brings to the fit loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import lightning as L
import pandas as pd
from torch import Tensor
from torch.utils.data import DataLoader


class MemberModule(L.LightningModule):
    """A network in training. Its averaged weights are published."""

    def published_state(self) -> dict[str, Tensor]:
        """The tensors to publish, by timm's names; contiguous, on the CPU."""
        raise NotImplementedError

    def metadata(self) -> dict[str, str]:
        """What the file of the published tensors says of them; nothing by default."""
        return {}

    def other_states(self) -> dict[str, dict[str, Tensor]]:
        """Weights that are kept beside the published ones, each in a file of its name; none by default."""
        return {}


@dataclass(frozen=True)
class MemberFit:
    """One member, ready to be trained.

    Attributes:
        module: The network with its loss and optimiser.
        training: Batches of one epoch.
        validation: Batches of the validation fold; None: the last epoch is kept, whatever the settings say.
        score: The logged metric that chooses the best epoch and stops early.
        predict: Published tensors → the table validation.csv, by the code that inference runs (a detector's by
            training's tiles, without overlap).
        mode: Of the score: ``"max"`` where higher is better, else ``"min"``.
    """

    module: MemberModule
    training: "DataLoader[dict[str, Tensor]]"
    validation: "DataLoader[dict[str, Tensor]] | None"
    score: str
    predict: Callable[[Mapping[str, Tensor]], pd.DataFrame]
    mode: Literal["max", "min"] = "max"
