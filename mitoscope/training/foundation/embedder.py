"""Crops → embeddings by a frozen network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Base
from mitoscope.classify.preprocess import preprocess
from mitoscope.networks.build import build_network, embed
from mitoscope.networks.device import DTYPES
from mitoscope.training.bases.pretrained import load_backbone
from mitoscope.training.bases.weights import describe_base, find_weights, own_input, read_base_weights


@dataclass(frozen=True)
class Embedder:
    """A frozen network on a device, and what is known of it.

    Attributes:
        name: As given to `build_embedder`; a bundle's ``architecture``.
        network: As `mitoscope.networks.build.build_network` gives it, with the weights of the base, in evaluation mode.
            Its last layer is random: a probe sets it.
        input: How crops become its input. With the name and the base's hash it identifies the embeddings.
        dimension: Length of an embedding.
        base: Hash, licence and source of the weights; ``file`` is None.
        path: The file that they were read from.
        device: Where the network is.
        precision: ``"fp32"``, ``"fp16"`` or ``"bf16"``: what it computes in.
    """

    name: str
    network: nn.Module
    input: InputSpec
    dimension: int
    base: Base
    path: Path
    device: torch.device
    precision: str

    @torch.inference_mode()
    def embed(self, crops: np.ndarray | Tensor) -> Tensor:
        """Embed some crops in one forward pass.

        Args:
            crops: uint8 (N, 128, 128, 3), RGB in [0, 255].

        Returns:
            float32 (N, dimension), on the device.
        """
        images = preprocess(crops, self.input, self.device).to(DTYPES[self.precision])
        return embed(self.network, images).float()


def build_embedder(
    name: str,
    base: Path | None = None,
    *,
    input: InputSpec | None = None,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> Embedder:
    """Build a network that embeds crops, with published weights.

    Args:
        name: A foundation model, see `mitoscope.networks.foundation.FOUNDATION`; or a timm name, whose embedding is
            what enters its classifier.
        base: See `mitoscope.training.bases.weights.find_weights`.
        input: How crops become its input; None: as it was trained, see `own_input`.
        device: As `mitoscope.networks.device.choose_device` gives it.
        precision: As `mitoscope.networks.device.choose_precision` gives it.

    Raises:
        WeightsError: The name is unknown, or there are no such weights.
        DataError: The file is of another architecture, or cannot be read.
    """
    spec = input or own_input(name)
    path = find_weights(name, base)
    network = build_network(name, spec.size_px)
    load_backbone(network, read_base_weights(name, path), str(path))
    network = network.eval().requires_grad_(False)
    placed = network.to(torch.device(device), DTYPES[precision], memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack memory_format
    dimension = network.get_classifier().in_features  # type: ignore[operator]
    where = torch.device(device)
    return Embedder(name, placed, spec, dimension, describe_base(name, path), path, where, precision)
