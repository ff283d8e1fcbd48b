import pytest
import timm
import torch
from torch import nn

from mitoscope.errors import WeightsError
from mitoscope.networks.build import build_network, restore_network
from mitoscope.networks.efficientvit import EfficientViT, find_shape, fold_norms


def trained_a_bit(architecture: str) -> nn.Module:
    """timm's network with random weights and batch norms that change their input, in fp32."""
    torch.manual_seed(0)
    network = build_network(architecture, 64).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        network(images(8))
    return network.eval()


def images(n_images: int) -> torch.Tensor:
    coarse = torch.randn(n_images, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    smooth = nn.functional.interpolate(coarse, size=64, mode="bilinear")
    return smooth.contiguous(memory_format=torch.channels_last)


def restored(architecture: str, network: nn.Module) -> nn.Module:
    own = restore_network(architecture, 64, network.state_dict(), "fold0")
    return own.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("architecture", ["efficientvit_b0", "efficientvit_b2", "efficientvit_l1", "efficientvit_l2"])
def test_the_logits_are_those_of_timm(architecture: str) -> None:
    network = trained_a_bit(architecture)
    own = restored(architecture, network)
    assert isinstance(own, EfficientViT)
    with torch.inference_mode():
        logits, expected = own(images(4)), network(images(4))
    assert logits.shape == (4, 1)
    assert expected.std() > 0.01  # else all images would have one logit
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_what_can_be_differentiated_gives_the_same_logits() -> None:
    own = restored("efficientvit_b0", trained_a_bit("efficientvit_b0"))
    logits = own(images(2).requires_grad_())
    assert logits.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(own(images(2)), logits, atol=1e-5, rtol=0)


def test_half_precision_comes_near() -> None:
    own = restored("efficientvit_b0", trained_a_bit("efficientvit_b0"))
    with torch.inference_mode():
        expected = own(images(4))
        logits = own.bfloat16()(images(4).bfloat16())
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.15, rtol=0)


@pytest.mark.parametrize("architecture", timm.list_models("efficientvit_[bl][0-9]"))
def test_every_network_of_the_family_has_its_tensors(architecture: str) -> None:
    with torch.device("meta"):
        expected = EfficientViT(find_shape(architecture)).state_dict()
        got = fold_norms(timm.create_model(architecture, num_classes=1).state_dict(), 1e-5)
    assert {name: tensor.shape for name, tensor in got.items()} == {n: t.shape for n, t in expected.items()}


def test_a_bias_beside_a_norm_is_refused() -> None:
    state = build_network("efficientvit_b0", 64).state_dict()
    state["stem.in_conv.conv.bias"] = torch.full((8,), 5.0)
    with pytest.raises(WeightsError, match="a batch norm without a matching convolution"):
        restore_network("efficientvit_b0", 64, state, "fold0")


@pytest.mark.parametrize(
    "lost", ["head.in_conv.norm.weight", "head.in_conv.norm.running_var", "stem.in_conv.conv.weight"]
)
def test_a_missing_tensor_is_named(lost: str) -> None:
    state = build_network("efficientvit_b0", 64).state_dict()
    del state[lost]
    with pytest.raises(WeightsError, match=r"fold0 is of another architecture: got .*(in_conv|norm)"):
        restore_network("efficientvit_b0", 64, state, "fold0")


@pytest.mark.parametrize(
    ("surplus", "problem"),
    [
        ("stages.9.norm.weight", "a surplus tensor stages.9.norm.weight"),
        ("stem.in_conv.weight", "two tensors for stem.in_conv.weight"),
    ],
)
def test_a_surplus_tensor_is_named(surplus: str, problem: str) -> None:
    state = build_network("efficientvit_b0", 64).state_dict()
    state[surplus] = torch.zeros(8)
    with pytest.raises(WeightsError, match=problem):
        restore_network("efficientvit_b0", 64, state, "fold0")
