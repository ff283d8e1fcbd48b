import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from mitoscope.bundle.read import read_bundle
from mitoscope.detect.detector import Detector
from mitoscope.errors import WeightsError
from mitoscope.networks import efficientnet
from mitoscope.networks.build import build_detector, build_network, restore_detector, restore_network
from mitoscope.networks.efficientnet import SCALES
from mitoscope.networks.rtmdet import flatten_grids
from mitoscope.networks.views import normalise

ROOT = Path(__file__).resolve().parents[3]
DETECTOR = ROOT / "weights" / "detector-lite"


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


LITES = [f"tf_efficientnet_lite{k}" for k in range(3)]  # those that training has ImageNet weights for


@pytest.mark.parametrize("architecture", [*LITES, "tf_efficientnet_lite0.in1k"])
def test_a_detectors_backbone_computes_what_timms_computes(architecture: str) -> None:
    torch.manual_seed(0)
    network = build_detector(architecture, 1)
    images = nn.functional.interpolate(torch.randn(4, 3, 24, 32), size=(192, 256), mode="bilinear")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        network.train()(images)  # statistics of these images, not the initial ones
        network.eval()
        restored = restore_detector(architecture, 1, network.state_dict(), "member")
        assert restored.backbone.channels == network.backbone.channels
        logits, wanted = (flatten_grids(*each(images))[0] for each in (restored, network))
        # In float64, since rounding grows from layer to layer with random weights.
        exact = [each.double().backbone(images.double()) for each in (restored, network)]
        boxes, wanted_boxes = (flatten_grids(*each(images.double()))[1] for each in (restored, network))
    for got, expected in zip(*exact, strict=True):
        assert expected.std() > 0.1
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(boxes, wanted_boxes, atol=1e-3, rtol=1e-4)  # in pixels
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n_values", [20_000, 3_000, 1])
@pytest.mark.parametrize("shape", [(1, 3, 96, 160), (2, 3, 98, 94)])
def test_strips_of_rows_give_the_same_bits(
    shape: tuple[int, ...], n_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    state = build_detector("tf_efficientnet_lite0", 1).state_dict()
    for name, tensor in state.items():
        if name.startswith("backbone.") and name.endswith(".bias"):
            nn.init.normal_(tensor)  # what is computed of padding is not 0
    backbone = restore_detector("tf_efficientnet_lite0", 1, state, "member").backbone
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        whole = backbone(images)
        monkeypatch.setattr(efficientnet, "STRIP_VALUES", n_values)
        strips = backbone(images)
    for got, expected in zip(strips, whole, strict=True):
        assert expected.std() > 0
        assert torch.equal(got, expected)


def test_the_first_layers_of_a_detector_stay_in_fp32() -> None:
    """They decide most of what rounding changes: the grids are nearer to those of fp32 than with all layers in bf16."""
    bundle = read_bundle(DETECTOR)
    content = (DETECTOR / bundle.members[0].file).read_bytes()

    def place(precision: str) -> nn.Module:
        [network] = Detector.place(bundle, iter([content]), torch.device("cpu"), precision).members
        return network.backbone

    exact, rounded = place("fp32"), place("bf16")
    kinds = {name: tensor.dtype for name, tensor in rounded.state_dict().items()}
    first = {name for name, dtype in kinds.items() if dtype == torch.float32}
    assert first == {name for name in kinds if name.startswith(("conv_stem.", "blocks.0."))}
    for name in first:
        assert torch.equal(rounded.state_dict()[name], exact.state_dict()[name])
    [path] = (ROOT / "test" / "input" / "region0").glob("images/*/*.tiff")
    pixels = torch.tensor(np.asarray(Image.open(path).convert("RGB"))[:448, :448])
    images = normalise(pixels.permute(2, 0, 1)[None].float() / 255, bundle.input)
    with torch.inference_mode():
        wanted = exact(images)
        mixed, coarse = (network(images.bfloat16()) for network in (rounded, place("bf16").to(torch.bfloat16)))
    errors = [
        max(float((each.float() - full).abs().mean()) for each, full in zip(grids, wanted, strict=True))
        for grids in (mixed, coarse)
    ]
    assert 0 < errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize(
    "surplus", ["backbone.bn3.weight", "backbone.conv_head.weight", "backbone.blocks.0.0.project.weight"]
)
def test_a_surplus_tensor_of_a_backbone_is_named(surplus: str) -> None:
    state = build_detector("tf_efficientnet_lite0", 1).state_dict()
    state[surplus] = torch.zeros(8)
    with pytest.raises(WeightsError, match=surplus.removeprefix("backbone.")):
        restore_detector("tf_efficientnet_lite0", 1, state, "member")


def test_a_detector_with_a_lite_backbone_runs_without_timm(tmp_path: Path) -> None:
    state = {key: tensor.clone() for key, tensor in build_detector("tf_efficientnet_lite0", 1).state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    code = f"""
import sys, safetensors.torch
from mitoscope.networks.build import restore_detector
restore_detector("tf_efficientnet_lite0", 1, safetensors.torch.load_file({str(tmp_path / "m.safetensors")!r}), "m")
print(*sorted({{"timm", "torchvision", "torch._dynamo"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


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
