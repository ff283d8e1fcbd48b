"""A tiny network with weights in a file, and the made crops' embeddings by it."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from mitoscope.bundle.inputs import InputSpec
from mitoscope.networks.build import build_network
from mitoscope.training.data.table import CropData
from mitoscope.training.foundation.embedder import Embedder, build_embedder
from mitoscope.training.foundation.probe.store import Embeddings, embed, read_embeddings

NETWORK = "test_resnet"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: a test of the machinery, no result."""
    torch.manual_seed(0)
    network = build_network(NETWORK, 64)
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def embedder(base: Path) -> Embedder:
    return build_embedder(NETWORK, base, input=InputSpec(crop_px=64, size_px=64))


@pytest.fixture(scope="session")
def embeddings_folder(data: CropData, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embeddings") / "tiny"
    assert embed(data, embedder, folder) == 80
    return folder


@pytest.fixture(scope="session")
def embeddings(data: CropData, embeddings_folder: Path) -> Embeddings:
    return read_embeddings(embeddings_folder, data)
