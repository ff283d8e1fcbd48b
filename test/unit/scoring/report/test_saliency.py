from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.read import read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.preprocess import preprocess
from mitoscope.errors import DataError
from mitoscope.networks.build import build_network
from mitoscope.scoring.report.saliency import Saliency, quantise


class Brightness(nn.Module):
    """A network that can be checked by eye: its logit is the mean brightness of an 8 × 8 grid, less one half."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout, self.pool, self.stage = layout, nn.AvgPool2d(8), nn.Identity()
        self.head = nn.Linear(1, 1)
        nn.init.constant_(self.head.weight, 1.0)
        nn.init.constant_(self.head.bias, -0.5)
        self.feature_info = [{"module": "stage", "num_chs": 1}]

    def forward(self, images: Tensor) -> Tensor:
        grid = self.pool(images.mean(dim=1, keepdim=True))  # (B, 1, 8, 8)
        if self.layout == "channels last":
            grid = grid.permute(0, 2, 3, 1)
        elif self.layout == "tokens":  # with a class token, which nothing reads
            grid = torch.cat([torch.ones(len(grid), 1, 1), grid.flatten(2).permute(0, 2, 1)], dim=1)
        seen = self.stage(grid)
        patches = seen[:, 1:] if self.layout == "tokens" else seen
        return self.head(patches.flatten(1).mean(dim=1, keepdim=True))


def make_classifier(
    folder: Path, members: list[nn.Module], spec: InputSpec, orientations: tuple[int, ...] = ()
) -> Classifier:
    bundle = read_bundle(folder)
    described = tuple(replace(member, orientations=orientations) for member in bundle.members[: len(members)])
    bundle = replace(bundle, input=spec, members=described)
    return Classifier(bundle, [member.eval() for member in members], torch.device("cpu"), "fp32")


@pytest.mark.parametrize("layout", ["channels first", "channels last", "tokens"])
def test_the_map_lies_over_the_central_square(layout: str, tiny_bundle: Path) -> None:
    spec = InputSpec(crop_px=64, size_px=64, mean=(0.0,) * 3, std=(1.0,) * 3)
    crops = np.zeros((2, 128, 128, 3), np.uint8)
    crops[0, 32 + 8 : 32 + 16, 32 + 40 : 32 + 48] = 255  # row 1, column 5 of the 8 × 8 cells
    crops[1, :32] = 255  # outside of what the networks see
    maps = Saliency(make_classifier(tiny_bundle, [Brightness(layout), Brightness(layout)], spec)).maps(crops)
    expected = np.zeros((8, 8), np.float32)
    expected[1, 5] = 1 / 64  # gradient of the mean × brightness
    assert maps[0] == pytest.approx(expected, abs=1e-7)
    assert not maps[1].any()


@pytest.mark.parametrize("orientation", range(8))
def test_the_map_lies_as_the_crop_does_whatever_the_network_sees(
    orientation: int, tiny_bundle: Path, stack: np.ndarray
) -> None:
    spec = InputSpec(crop_px=128, size_px=64, mean=(0.0,) * 3, std=(1.0,) * 3)
    as_it_comes, turned = (
        Saliency(make_classifier(tiny_bundle, [Brightness("channels first")], spec, seen)).maps(stack)
        for seen in ((), (orientation,))
    )
    np.testing.assert_allclose(turned, as_it_comes, atol=1e-6)


def test_members_are_averaged_and_may_speak_against(tiny_bundle: Path) -> None:
    spec = InputSpec(crop_px=128, size_px=64, mean=(0.0,) * 3, std=(1.0,) * 3)
    members = [Brightness("channels first") for _ in range(2)]
    with torch.no_grad():
        members[1].head.weight.fill_(-3.0)
    maps = Saliency(make_classifier(tiny_bundle, members, spec)).maps(np.full((1, 128, 128, 3), 255, np.uint8))
    assert maps == pytest.approx(np.full((1, 8, 8), (1 - 3) / 2 / 64), abs=1e-6)


@pytest.mark.parametrize(
    ("architecture", "stage"),
    [("efficientvit_b0", "stages.2"), ("regnetx_002", "s3"), ("vit_tiny_patch16_224", "blocks.10")],
)
def test_real_networks_give_the_map_of_the_paper(
    architecture: str, stage: str, tiny_bundle: Path, stack: np.ndarray
) -> None:
    """Against Grad-CAM written down from the paper's equations 1 and 2, on the network as it is, without its ReLU."""
    torch.manual_seed(1)
    spec, network = InputSpec(crop_px=128, size_px=128), build_network(architecture, 128).eval()
    nn.init.normal_(network.get_classifier().weight)
    held: list[Tensor] = []
    hook = network.get_submodule(stage).register_forward_hook(lambda _module, _inputs, output: held.append(output))
    logits = network(preprocess(stack[:3], spec))
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.sum(), held[0])
    if architecture.startswith("vit"):  # 1 class token and 8 × 8 patches
        activation, gradient = (x[:, 1:].permute(0, 2, 1).reshape(3, -1, 8, 8) for x in (held[0], gradient))
    else:
        activation = held[0]
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * activation).sum(dim=1).detach().numpy()
    classifier = make_classifier(tiny_bundle, [network], spec)
    before = classifier.predict_members(stack)
    maps = Saliency(classifier).maps(stack[:3])
    assert maps.shape == (3, 8, 8)
    assert np.abs(expected).max(axis=(1, 2)).min() > 0
    assert maps == pytest.approx(expected, rel=1e-3, abs=1e-4 * float(np.abs(expected).max()))
    assert (classifier.predict_members(stack) == before).all()


def test_a_crop_has_the_same_map_in_any_company(tiny_bundle: Path, stack: np.ndarray) -> None:
    saliency = Saliency(Classifier.load(tiny_bundle, device="cpu"))
    together = saliency.maps(np.concatenate([stack] * 3))  # more than a batch
    assert together.shape == (48, 8, 8)
    assert together[32:] == pytest.approx(saliency.maps(stack), rel=1e-3, abs=1e-6)


def test_a_network_without_a_fine_grid_is_refused(tiny_bundle: Path) -> None:
    network = build_network("vit_tiny_patch16_224", 64)  # 4 × 4 patches
    with pytest.raises(DataError, match=r"no map can be drawn of a VisionTransformer: got stages of shape \[\(1, 17, "):
        Saliency(make_classifier(tiny_bundle, [network], InputSpec(size_px=64)))


def test_quantised_maps_show_sizes_whatever_the_sign() -> None:
    maps = np.array([[[0.0, 0.5], [-1.0, 0.25]], [[0.0, 0.0], [0.0, 0.0]]], dtype=np.float32)
    quantised = quantise(maps)
    assert quantised.dtype == np.uint8
    assert quantised.tolist() == [[[0, 128], [255, 64]], [[0, 0], [0, 0]]]
