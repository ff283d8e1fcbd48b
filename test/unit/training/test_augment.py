import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.color import hed2rgb

from mitoscope.bundle.inputs import InputSpec
from mitoscope.classify.preprocess import preprocess
from mitoscope.images.stain import rgb_to_hed
from mitoscope.training.augment import AugmentConfig, augment, draw_affine, find_reach, perturb_stain, warp

NOTHING = AugmentConfig(
    stain_scale=0, stain_shift=0, zoom=0, stretch=0, translate_px=0, brightness=0, contrast=0, blur_sigma_px=0,
    sharpen=0, noise=0, mirror_rotate=False,
)  # fmt: skip


def stained(n: int) -> torch.Tensor:
    """RGB images (n, 3, 32, 32) whose three stains are all positive, as skimage's clipping wants."""
    stains = np.random.default_rng(0).uniform(0.005, 0.1, (n, 32, 32, 3))
    return torch.from_numpy(hed2rgb(stains)).permute(0, 3, 1, 2).float()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_stain_perturbation_of_almost_nothing_changes_almost_nothing() -> None:
    images = torch.rand(2, 3, 32, 32, generator=generator())
    torch.testing.assert_close(perturb_stain(images, 1e-9, 1e-9, generator()), images, atol=1 / 255, rtol=0)


@pytest.mark.parametrize(("scale", "shift"), [(0.2, 0.0), (0.0, 0.03)])
def test_scaling_and_shifting_act_on_each_image_and_stain(scale: float, shift: float) -> None:
    before, after = rgb_to_hed(stained(4)), rgb_to_hed(perturb_stain(stained(4), scale, shift, generator()))
    change = after / before if scale else after - before
    per_stain = change.flatten(2)  # one factor or offset an image and stain
    assert per_stain.std(dim=2).max() < 1e-3
    assert per_stain.mean(dim=2).flatten().unique().numel() == 12
    assert (change - (1 if scale else 0)).abs().max() <= max(scale, shift) + 1e-3


@pytest.mark.parametrize("spec", [InputSpec(128, 128), InputSpec(64, 64)])
def test_without_strength_augmentation_is_the_preprocessing(spec: InputSpec) -> None:
    crops = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8, generator=generator())
    torch.testing.assert_close(
        augment(crops, spec, NOTHING, generator())[0], preprocess(crops, spec), atol=0.02, rtol=0
    )


def test_without_strength_the_resampling_is_the_preprocessing_too() -> None:
    spec = InputSpec(64, 128)
    crops = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8, generator=generator())
    inside = (..., slice(4, -4), slice(4, -4))  # at the border one sees beyond the cut, the other mirrors
    got, expected = augment(crops, spec, NOTHING, generator())[0][inside], preprocess(crops, spec)[inside]
    torch.testing.assert_close(got, expected, atol=0.02, rtol=0)


def test_the_warp_zooms_shifts_and_turns_by_what_it_says() -> None:
    ramp = torch.linspace(0.5 / 128, 1 - 0.5 / 128, 128)  # a pixel's value is its own coordinate
    images = torch.stack([ramp.expand(128, 128), ramp[:, None].expand(128, 128), torch.zeros(128, 128)])
    config = replace(NOTHING, mirror_rotate=True, zoom=0.25, stretch=0.1, translate_px=4.0)
    affine = draw_affine(torch.empty(64, 128, 128, 3), InputSpec(64, 64), config, generator())
    x, y = warp(images.expand(64, 3, 128, 128), affine, 64)[:, :2].unbind(1)  # (64, 64, 64)
    centre = torch.stack([x[:, 31:33, 31:33].mean((1, 2)), y[:, 31:33, 31:33].mean((1, 2))], 1) * 128 - 64
    assert 3 < centre.abs().max() <= 4.05
    along, across = (torch.stack([c[:, 40, 32] - c[:, 24, 32], c[:, 32, 40] - c[:, 32, 24]], 1) * 8 for c in (x, y))
    jacobian = torch.stack([along, across], 1)  # (64, xy, rows and columns), crop pixels per network pixel
    scales = torch.linalg.svdvals(jacobian)
    assert math.exp(-0.31) < scales.min() < 0.85
    assert 1.15 < scales.max() < math.exp(0.31)
    mirrored = (torch.linalg.det(jacobian) < 0).float().mean()
    assert 0.3 < mirrored < 0.7


@pytest.mark.parametrize(
    "step",
    [
        {"stain_scale": 0.2},
        {"stain_shift": 0.03},
        {"zoom": 0.2},
        {"stretch": 0.2},
        {"translate_px": 4.0},
        {"brightness": 0.1},
        {"contrast": 0.2},
        {"blur_sigma_px": 1.5},
        {"sharpen": 1.0},
        {"noise": 0.05},
        {"mirror_rotate": True},
        {"hue": 0.1},
        {"saturation": 0.5},
    ],
    ids=lambda step: next(iter(step)),
)
def test_each_step_is_in_use(step: dict[str, float]) -> None:
    crops = torch.randint(0, 256, (8, 128, 128, 3), dtype=torch.uint8, generator=generator())
    alone, _ = augment(crops, InputSpec(64, 64), replace(NOTHING, **step), generator())
    assert (alone - augment(crops, InputSpec(64, 64), NOTHING, generator())[0]).abs().max() > 0.1


def test_augmentation_depends_on_its_generator_alone() -> None:
    crops = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8, generator=generator())
    first, second = (augment(crops, InputSpec(64, 128), AugmentConfig(), generator())[0] for _ in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    assert (first - preprocess(crops, InputSpec(64, 128))).abs().max() > 0.1
    assert first.shape == (3, 3, 128, 128)
    assert torch.isfinite(first).all()


def test_quarter_turns_and_mirror_images_are_the_eight_of_a_square() -> None:
    config = replace(NOTHING, mirror_rotate=True, quarter_turns=True)
    affine = draw_affine(torch.empty(800, 32, 32, 3), InputSpec(32, 32), config, generator())
    found, counts = affine[:, :, :2].round().int().flatten(1).unique(dim=0, return_counts=True)
    assert len(found) == 8
    assert (counts - 100).abs().max() < 4 * math.sqrt(800 / 8 * 7 / 8)  # four standard errors
    images = torch.rand(800, 3, 32, 32, generator=generator())
    torch.testing.assert_close(
        warp(images, affine, 32).flatten(1).sort().values, images.flatten(1).sort().values, atol=1e-3, rtol=0
    )


def test_colour_keeps_grey_and_luminance() -> None:
    config = replace(NOTHING, hue=0.5, saturation=0.5)
    grey = torch.full((4, 64, 64, 3), 128, dtype=torch.uint8)
    plain, turned = (augment(grey, InputSpec(64, 64), c, generator())[0] for c in (NOTHING, config))
    torch.testing.assert_close(plain, turned, atol=1e-3, rtol=0)
    crops = torch.randint(100, 156, (4, 64, 64, 3), dtype=torch.uint8, generator=generator())
    spec = InputSpec(64, 64, mean=(0.0,) * 3, std=(1.0,) * 3)
    plain, turned = (augment(crops, spec, c, generator())[0] for c in (NOTHING, config))
    luminance = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((plain * luminance).sum(1), (turned * luminance).sum(1), atol=1e-3, rtol=0)
    assert (plain - turned).abs().max() > 0.05


def test_a_warp_looks_no_further_than_its_reach() -> None:
    for quarter_turns in (False, True):
        config = replace(NOTHING, mirror_rotate=True, quarter_turns=quarter_turns, zoom=0.2, stretch=0.1)
        side_px = 2 * math.ceil(32 * find_reach(config))
        affine = draw_affine(torch.empty(500, side_px, side_px, 3), InputSpec(64, 64), config, generator())
        corners = torch.tensor([[-1.0, -1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, 1]])
        seen = (affine @ corners.T).abs().max()
        assert 0.9 < seen <= 1
