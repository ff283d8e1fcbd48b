import pytest
import torch
from torch import nn

from mitoscope.errors import WeightsError
from mitoscope.networks.build import build_network
from mitoscope.training.classify.features import recorded_features


def test_the_logit_is_made_of_the_recorded_features_alone() -> None:
    network = build_network("test_resnet", 64).eval()
    with torch.inference_mode(), recorded_features(network) as recorded:
        logits = [network(torch.rand(2, 3, 64, 64)) for _ in range(2)]
    torch.testing.assert_close(network.fc(torch.cat(recorded)), torch.cat(logits))
    network(torch.rand(2, 3, 64, 64))
    assert len(recorded) == 2  # nothing is recorded afterwards


@pytest.mark.parametrize("network", [nn.Conv2d(3, 1, 1), nn.Linear(3, 2)])
def test_a_network_without_a_logit_s_layer_is_refused(network: nn.Module) -> None:
    with pytest.raises(WeightsError, match="features cannot be read"), recorded_features(network):
        pass
