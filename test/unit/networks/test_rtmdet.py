import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mitoscope.errors import WeightsError
from mitoscope.networks.build import restore_detector
from mitoscope.networks.rtmdet import SIZES, RTMDet


def count(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def test_the_small_one_has_the_published_size() -> None:
    with torch.device("meta"):
        network, image = RTMDet(SIZES["rtmdet_s"], 80), torch.empty(1, 3, 640, 640)
    parts = [count(part) for part in (network.backbone, network.neck, network.bbox_head)]
    assert parts == [4_378_320, 3_883_200, 625_404]
    with FlopCounterMode(display=False) as counter:
        network(image)
    assert counter.get_total_flops() / 2e9 == pytest.approx(14.76, abs=0.01)  # GMAC


def test_its_tensors_are_named_as_in_mmdet_checkpoints() -> None:
    with torch.device("meta"):
        names = RTMDet(SIZES["rtmdet_s"], 1).state_dict()
    for name, shape in {
        "backbone.stem.0.conv.weight": (16, 3, 3, 3),
        "backbone.stage2.1.blocks.1.conv2.depthwise_conv.conv.weight": (64, 1, 5, 5),
        "backbone.stage4.1.conv2.conv.weight": (512, 1024, 1, 1),
        "backbone.stage4.2.attention.fc.bias": (512,),
        "neck.top_down_blocks.0.final_conv.bn.running_var": (256,),
        "neck.out_convs.2.conv.weight": (128, 512, 3, 3),
        "bbox_head.cls_convs.2.1.conv.weight": (128, 128, 3, 3),
        "bbox_head.reg_convs.1.0.bn.weight": (128,),
        "bbox_head.rtm_cls.0.weight": (1, 128, 1, 1),
        "bbox_head.rtm_reg.2.bias": (4,),
    }.items():
        assert tuple(names[name].shape) == shape


def test_the_grids_share_convolutions_but_not_norms() -> None:
    head = RTMDet(SIZES["rtmdet_tiny"], 1).bbox_head
    first, second = (head.cls_convs.get_submodule(f"{k}.0") for k in (0, 2))
    assert first.conv is second.conv
    assert first.bn is not second.bn


def test_it_starts_from_the_prior_and_gives_pixels() -> None:
    torch.manual_seed(0)
    network = RTMDet(SIZES["rtmdet_tiny"], 2).eval()
    with torch.no_grad():
        logits, distances = network(torch.zeros(1, 3, 64, 96))
    assert [tuple(grid.shape) for grid in logits] == [(1, 2, 8, 12), (1, 2, 4, 6), (1, 2, 2, 3)]
    assert [tuple(grid.shape) for grid in distances] == [(1, 4, 8, 12), (1, 4, 4, 6), (1, 4, 2, 3)]
    assert logits[0].sigmoid().mean() == pytest.approx(0.01, abs=0.001)


def make_noise(*shape: int, seed: int) -> torch.Tensor:
    """Numbers in (-1, 1) that every version of torch makes alike."""
    waves = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) + seed)
    return (waves * 1e4).frac().reshape(shape).float()


def test_it_gives_what_another_implementation_gives() -> None:
    """The values are those of LibreYOLO 1.6.0 with the same tensors; the largest difference was 0 (docs/adr/0014)."""
    network = RTMDet(SIZES["rtmdet_s"], 1).eval()
    state = network.state_dict()
    for seed, (name, tensor) in enumerate(sorted(state.items())):
        noise = make_noise(*tensor.shape, seed=seed)
        if tensor.ndim > 1:
            state[name] = noise * (8 / tensor[0].numel()) ** 0.5  # neither fades nor grows from layer to layer
        elif name.endswith(("running_var", "bn.weight")):
            state[name] = 1 + noise / 2
        elif tensor.is_floating_point():
            state[name] = noise / 10
    network.load_state_dict(state)
    with torch.no_grad():
        logits, distances = network(make_noise(1, 3, 64, 96, seed=0))
    for grids, expected in (
        (logits, [[0.6968, 2.0470, 2.9465], [-1.2382, -0.7464, -2.4511], [-8.3273, -10.2896, -4.7368]]),
        (distances, [[12.2110, 8.9173, -1.2582], [-18.0952, -9.9245, -43.4489], [-17.5696, -15.5136, -17.4145]]),
    ):
        np.testing.assert_allclose([grid.flatten()[:3] for grid in grids], expected, rtol=0, atol=0.01)


def test_inference_merges_the_norms_and_gives_the_same() -> None:
    torch.manual_seed(0)
    network, image = RTMDet(SIZES["rtmdet_tiny"], 1), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        network.train()(image)  # batch norms with statistics of their own
        expected = network.eval()(image)
        merged = restore_detector("rtmdet_tiny", 1, network.state_dict(), "m")
        got = merged(image)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in merged.modules())
    for ours, theirs in zip([*got[0], *got[1]], [*expected[0], *expected[1]], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_tensors_of_another_detector_are_refused() -> None:
    state = RTMDet(SIZES["rtmdet_tiny"], 1).state_dict()
    for architecture, n_classes, words in (
        ("rtmdet_s", 1, "m is of another architecture"),
        ("rtmdet_tiny", 2, "rtm_cls.0.bias of shape"),
        ("rtmdet_x", 1, "the network cannot be built"),
    ):
        with pytest.raises(WeightsError, match=words):
            restore_detector(architecture, n_classes, state, "m")
