from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS as TheirFCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, boxes
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mitoscope.errors import WeightsError
from mitoscope.networks.build import build_detector, restore_detector
from mitoscope.networks.fcos import CHANNELS
from mitoscope.networks.rtmdet import flatten_grids
from mitoscope.training.detect.loss import find_loss
from mitoscope.training.detect.settings import PRESETS

ARCHITECTURE, SIDE, N_CLASSES = "fcos_test_resnet", 128, 2


class TheirGrids(nn.Module):
    """Our backbone, then torchvision's neck."""

    out_channels = CHANNELS

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.body = backbone
        self.fpn = FeaturePyramidNetwork(backbone.channels, CHANNELS, LastLevelP6P7(CHANNELS, CHANNELS))

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return self.fpn(OrderedDict((str(k), grid) for k, grid in enumerate(self.body(x))))


@pytest.fixture(scope="module")
def both() -> tuple[nn.Module, TheirFCOS]:
    """Ours, and torchvision's with the same weights; large ones, so that probabilities are not all alike."""
    torch.manual_seed(0)
    ours = build_detector(ARCHITECTURE, N_CLASSES).eval()
    for name, tensor in ours.head.named_parameters():
        if name.endswith("weight") and tensor.ndim == 4:
            nn.init.normal_(tensor, std=0.04)
    theirs = TheirFCOS(
        TheirGrids(ours.backbone), N_CLASSES, image_mean=[0, 0, 0], image_std=[1, 1, 1], min_size=SIDE, max_size=SIDE,
        score_thresh=0.05, nms_thresh=1.0, detections_per_img=100_000, topk_candidates=100_000,
    ).eval()  # fmt: skip
    theirs.backbone.fpn.load_state_dict(ours.fpn.state_dict(), strict=True)
    theirs.head.load_state_dict(ours.head.state_dict(), strict=True)
    return ours, theirs


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_its_grids_are_torchvisions(both: tuple[nn.Module, TheirFCOS], images: Tensor) -> None:
    ours, theirs = both
    expected = theirs.head(list(theirs.backbone(images).values()))
    logits, distances, centres = ours(images)
    assert [grid.shape[-1] for grid in logits] == [16, 8, 4, 2, 1]
    scaled = [grid / stride for grid, stride in zip(distances, (8, 16, 32, 64, 128), strict=True)]
    for name, grids in (("cls_logits", logits), ("bbox_regression", scaled), ("bbox_ctrness", centres)):
        got = torch.cat([grid.flatten(2).mT for grid in grids], dim=1)
        assert got.std() > 0.01
        torch.testing.assert_close(got, expected[name], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_its_boxes_and_probabilities_are_torchvisions(both: tuple[nn.Module, TheirFCOS], images: Tensor) -> None:
    ours, theirs = both
    logits, placed, _ = flatten_grids(*ours(images))
    for number, expected in enumerate(theirs(list(images))):
        p = logits[number].sigmoid()
        rows, classes = (p > 0.05).nonzero().unbind(dim=1)
        assert len(rows) == len(expected["scores"]) > 20
        order = p[rows, classes].argsort(descending=True)
        torch.testing.assert_close(p[rows, classes][order], expected["scores"], rtol=1e-4, atol=1e-5)
        top = order[:20]
        clipped = boxes.clip_boxes_to_image(placed[number][rows[top]], (SIDE, SIDE))
        torch.testing.assert_close(clipped, expected["boxes"][:20], rtol=1e-3, atol=1e-2)


# Small, that of the preset, larger than the first grid's range; one in another; at the border; none.
CASES = [
    [[(40.0, 50.0, 52.0, 62.0)], [(80.0, 90.0, 105.0, 115.0), (20.0, 30.0, 45.0, 55.0)]],
    [[(10.0, 5.0, 120.0, 100.0), (60.0, 60.0, 90.0, 95.0)], [(0.0, 0.0, 20.0, 25.0), (32.0, 32.0, 96.0, 96.0)]],
    [[(2.0, 2.0, 126.0, 120.0)], []],
    [[], []],
]


@pytest.mark.parametrize("case", CASES)
def test_its_loss_is_torchvisions(
    both: tuple[nn.Module, TheirFCOS], images: Tensor, case: list[list[tuple[float, ...]]]
) -> None:
    ours, theirs = both
    wanted = [torch.tensor(each).reshape(-1, 4) for each in case]
    classes = [torch.arange(len(each)) % N_CLASSES for each in wanted]
    with torch.no_grad():
        features = list(theirs.backbone(images).values())
        head = theirs.head(features)
        anchors = theirs.anchor_generator(ImageList(images, [(SIDE, SIDE)] * 2), features)
        sizes = [grid.shape[-2] * grid.shape[-1] for grid in features]
        targets = [{"boxes": each, "labels": kinds} for each, kinds in zip(wanted, classes, strict=True)]
        expected = theirs.compute_loss(targets, head, anchors, sizes)
        focal, rest = find_loss(ARCHITECTURE)(*ours(images), wanted, classes)
    torch.testing.assert_close(focal, expected["classification"], rtol=1e-4, atol=1e-6)
    both_parts = expected["bbox_regression"] + expected["bbox_ctrness"]
    torch.testing.assert_close(rest, both_parts, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_inference_restores_it_with_a_runtime_of_its_own(images: Tensor) -> None:
    torch.manual_seed(0)
    architecture = PRESETS["fcos"].architecture
    network = build_detector(architecture, 1)
    network.train()(images)  # batch norms with statistics of their own
    expected = flatten_grids(*network.eval()(images))
    restored = restore_detector(architecture, 1, network.state_dict(), "m")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in restored.modules())
    for got, wanted in zip(flatten_grids(*restored(images)), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(WeightsError, match="m is of another architecture"):
        restore_detector("fcos_tf_efficientnet_lite1", 1, network.state_dict(), "m")
