import pytest
import torch

from mitoscope.errors import WeightsError
from mitoscope.networks.build import build_network, restore_network
from mitoscope.networks.efficientnet import SCALES


@pytest.mark.parametrize(("architecture", "side"), [(name, 64) for name in SCALES] + [("tf_efficientnet_lite0", 100)])
def test_it_computes_what_timms_network_computes(architecture: str, side: int) -> None:
    torch.manual_seed(0)
    network = build_network(architecture, side)
    images = torch.randn(4, 3, side, side)
    with torch.no_grad():
        network.train()(images)  # statistics of these images, not the initial ones
        network.eval()
        network.classifier.weight.normal_(0, 0.05)
        expected = network(images)
        got = restore_network(architecture, side, network.state_dict(), "member")(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_gradients_flow_where_they_are_wanted() -> None:
    network = restore_network("tf_efficientnet_lite0", 64, build_network("tf_efficientnet_lite0", 64).state_dict(), "m")
    images = torch.randn(2, 3, 64, 64, requires_grad=True)
    network(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_a_network_with_squeeze_and_excitation_is_refused() -> None:
    state = build_network("tf_efficientnet_b0", 64).state_dict()
    with pytest.raises(WeightsError, match="a surplus tensor blocks.0.0.se.conv_expand.bias"):
        restore_network("tf_efficientnet_lite0", 64, state, "fold0")


@pytest.mark.parametrize("surplus", ["bn3.weight", "blocks.0.0.project.weight"])
def test_a_surplus_tensor_is_named(surplus: str) -> None:
    state = build_network("tf_efficientnet_lite0", 64).state_dict()
    state[surplus] = torch.zeros(8)
    with pytest.raises(WeightsError, match=surplus):
        restore_network("tf_efficientnet_lite0", 64, state, "fold0")
