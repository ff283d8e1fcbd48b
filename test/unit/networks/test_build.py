import pytest
import torch

from mitoscope.errors import WeightsError
from mitoscope.networks.build import build_detector, build_network, restore_network


def test_the_paper_s_network_has_its_published_size() -> None:
    with torch.device("meta"):
        network = build_network("efficientvit_l2", 256)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    classifier_of_imagenet = 1000 * 3200 + 1000 - 3201  # the paper counts the network with 1,000 classes
    assert round((n_parameters + classifier_of_imagenet) / 1e6) == 64


def test_one_logit_a_crop() -> None:
    for architecture in ("efficientvit_b0", "test_vit"):  # the second is built for one size, 160 px if none is named
        assert build_network(architecture, 64).eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 1)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(WeightsError, match="got architecture 'efficientvit_xxl'"):
        build_network("efficientvit_xxl", 64)


def test_weights_that_cannot_be_fetched_are_an_error_not_a_random_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="pre-trained weights of efficientvit_b0.r224_in1k cannot be loaded"):
        build_network("efficientvit_b0.r224_in1k", 64, pretrained=True)


def test_tensors_that_the_state_lacks_are_computed() -> None:
    torch.manual_seed(0)
    network = build_network("eva02_tiny_patch14_224", 56).eval()  # its rotary embedding is not part of its state
    restored = restore_network("eva02_tiny_patch14_224", 56, network.state_dict(), "fold0")
    images = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(restored(images), network(images), atol=0, rtol=0)


def test_a_detector_stands_on_any_network_with_grids() -> None:
    network = build_detector("tf_efficientnet_lite0", 2).eval()
    with torch.no_grad():
        logits, distances = network(torch.zeros(1, 3, 64, 96))
    assert [tuple(grid.shape) for grid in logits] == [(1, 2, 8, 12), (1, 2, 4, 6), (1, 2, 2, 3)]
    assert [tuple(grid.shape) for grid in distances] == [(1, 4, 8, 12), (1, 4, 4, 6), (1, 4, 2, 3)]
    names = network.state_dict()
    assert tuple(names["backbone.blocks.4.0.conv_pw.weight"].shape) == (480, 80, 1, 1)
    assert tuple(names["neck.reduce_layers.0.conv.weight"].shape) == (112, 320, 1, 1)
    assert build_detector("rtmdet_tiny", 1).state_dict().keys() >= {"backbone.stem.0.conv.weight"}


@pytest.mark.parametrize("architecture", ["test_vit", "efficientvit_xxl"])
def test_a_detector_without_grids_is_refused(architecture: str) -> None:
    with pytest.raises(WeightsError, match="expected grids at strides|got architecture"):
        build_detector(architecture, 1)
