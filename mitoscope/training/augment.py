"""Training-time augmentation of a batch on its device, with random parameters for each image.

Stain: after Tellez et al., "H and E stain augmentation improves generalization of convolutional networks for
histopathological mitosis detection", SPIE 2018: deconvolve to haematoxylin, eosin and residual (Ruifrok and
Johnston 2001, the matrix of skimage.color), scale and shift each, and project back.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from mitoscope.bundle.inputs import InputSpec
from mitoscope.errors import DataError
from mitoscope.images import CROP_PX
from mitoscope.images.stain import hed_to_rgb, rgb_to_hed
from mitoscope.networks.views import normalise

LIMITS = {
    **{"stain_scale": 1, "stain_shift": 1, "zoom": 1, "stretch": 1, "translate_px": CROP_PX / 2, "brightness": 1},
    **{"contrast": 1, "blur_sigma_px": 5, "sharpen": 10, "noise": 1, "mirror_rotate": True},
    **{"quarter_turns": True, "hue": 0.5, "saturation": 1},
}
# From RGB to luminance and the two axes of the colour circle (YIQ), and back.
YIQ_FROM_RGB = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
RGB_FROM_YIQ = torch.linalg.inv(YIQ_FROM_RGB.double()).float()


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths. Every range is uniform and two-sided unless stated otherwise; 0 switches a step off.

    Attributes:
        stain_scale: Relative change of each stain's amount.
        stain_shift: Offset of each stain, in skimage's unit (0.01 is an optical density of 0.06).
        zoom: Log-range of the scale: 0.25 is ÷1.28 … ×1.28.
        stretch: Log-range of the aspect ratio.
        translate_px: Offset of the centre in the crop's own pixels.
        brightness: Offset on the scale [0, 1].
        contrast: Relative change about the crop's mean.
        blur_sigma_px: Largest Gaussian blur, of the network's input pixels; from 0, for half of the crops.
        sharpen: Largest unsharp mask; from 0, for the other half.
        noise: Largest standard deviation of Gaussian noise, on the scale [0, 1]; from 0.
        mirror_rotate: Any angle and mirror image.
        quarter_turns: Of the angles only 0°, 90°, 180° and 270°.
        hue: Turn of the colour circle, as a share of a full turn.
        saturation: Relative change of the distance from grey.
    """

    stain_scale: float = 0.2
    stain_shift: float = 0.03
    zoom: float = 0.25
    stretch: float = 0.1
    translate_px: float = 4.0
    brightness: float = 0.08
    contrast: float = 0.2
    blur_sigma_px: float = 1.8
    sharpen: float = 0.8
    noise: float = 0.03
    mirror_rotate: bool = True
    quarter_turns: bool = False
    hue: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name, strength in vars(self).items():
            if not 0 <= strength <= LIMITS[name]:
                raise DataError(
                    f"the setting augment.{name} is out of range",
                    got=strength,
                    expected=f"0 to {LIMITS[name]}",
                    remedy=f"correct --set augment.{name}=…",
                )


def augment(windows: Tensor, spec: InputSpec, config: AugmentConfig, generator: Generator) -> tuple[Tensor, Tensor]:
    """Augment and prepare one batch.

    Args:
        windows: uint8 (B, W, W, 3), RGB; of a classifier's crops W is 128.
        spec: The network's input: what is cut from the centre and to which size.
        config: Strengths.
        generator: On the batch's device; the only source of randomness.

    Returns:
        float32 (B, 3, size_px, size_px), normalised, channels-last. With all strengths 0 it is `preprocess`,
        up to the resampling kernel. And where each pixel came from, see `draw_affine`.
    """
    affine = draw_affine(windows, spec, config, generator)
    images = warp(windows.permute(0, 3, 1, 2).float() / 255, affine, spec.size_px)
    images = perturb_stain(images, config.stain_scale, config.stain_shift, generator).clamp_(0, 1)
    images = _perturb_colour(images, config, generator)
    images = _perturb_light(images, config, generator)
    images = _perturb_focus(images, config, generator)
    if config.noise:
        sigma = _uniform(images, generator, 0, config.noise)
        images = images + sigma * torch.randn(images.shape, generator=generator, device=images.device)
    return normalise(images.clamp(0, 1), spec).contiguous(memory_format=torch.channels_last), affine


def draw_affine(windows: Tensor, spec: InputSpec, config: AugmentConfig, generator: Generator) -> Tensor:
    """Draw how each window is rotated, mirrored, zoomed, stretched and shifted.

    Args:
        windows: (B, W, W, 3).
        spec: What is cut from the centre.
        config: Strengths.
        generator: The source of randomness.

    Returns:
        float (B, 2, 3): from a place in the network's input to the place in the window that it shows, both from -1 to
        1, as `torch.nn.functional.affine_grid` takes it.
    """
    full_turn = math.pi if config.mirror_rotate else 0.0
    angle = _uniform(windows, generator, -full_turn, full_turn).flatten()
    if config.quarter_turns:
        angle = (angle / (math.pi / 2)).round() * (math.pi / 2)  # -180° and 180° are half as likely, and the same
    zoom = _uniform(windows, generator, -config.zoom, config.zoom).flatten().exp()
    stretch = _uniform(windows, generator, -config.stretch / 2, config.stretch / 2).flatten().exp()
    mirror = (
        1 - 2 * (_uniform(windows, generator, 0, 1).flatten() < 0.5).float() if config.mirror_rotate else zoom * 0 + 1
    )
    side_px = windows.shape[1]
    shift_x = _uniform(windows, generator, -config.translate_px, config.translate_px).flatten() / (side_px / 2)
    shift_y = _uniform(windows, generator, -config.translate_px, config.translate_px).flatten() / (side_px / 2)
    extent = spec.crop_px / side_px
    x_scale, y_scale = extent / zoom * stretch * mirror, extent / zoom / stretch
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([cos * x_scale, -sin * y_scale, shift_x], 1),
        torch.stack([sin * x_scale, cos * y_scale, shift_y], 1),
    ]
    return torch.stack(rows, 1)


def warp(images: Tensor, affine: Tensor, size_px: int) -> Tensor:
    """Rotate, mirror, zoom, stretch, shift, cut and resize in one bicubic resampling.

    Args:
        images: float (B, 3, W, W) in [0, 1].
        affine: float (B, 2, 3), see `draw_affine`.
        size_px: Side of the result.

    Returns:
        float (B, 3, size_px, size_px) in [0, 1].
    """
    grid = F.affine_grid(affine, [len(images), 3, size_px, size_px], align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)


def find_reach(config: AugmentConfig) -> float:
    """How large a window `warp` may look at, as a multiple of what is cut."""
    turned = math.sqrt(2) if config.mirror_rotate and not config.quarter_turns else 1.0
    return turned * math.exp(config.zoom + config.stretch / 2)


def perturb_stain(images: Tensor, scale: float, shift: float, generator: Generator) -> Tensor:
    """Scale and shift haematoxylin, eosin and residual of each image.

    Args:
        images: float (B, 3, H, W), RGB in [0, 1].
        scale: Each stain is multiplied by U(1 - scale, 1 + scale).
        shift: Each stain is moved by U(-shift, shift), in skimage's unit.
        generator: The source of randomness.

    Returns:
        float (B, 3, H, W), not clipped.
    """
    if not scale and not shift:
        return images
    shape = (len(images), 3)
    factor = 1 + scale * (2 * torch.rand(shape, generator=generator, device=images.device) - 1)
    offset = shift * (2 * torch.rand(shape, generator=generator, device=images.device) - 1)
    stains = rgb_to_hed(images) * factor[:, :, None, None] + offset[:, :, None, None]
    return hed_to_rgb(stains)


def _perturb_colour(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Hue and saturation, at the same luminance."""
    if not config.hue and not config.saturation:
        return images
    turn = 2 * math.pi * _uniform(images, generator, -config.hue, config.hue).flatten()
    gain = 1 + _uniform(images, generator, -config.saturation, config.saturation).flatten()
    cos, sin, zero = turn.cos() * gain, turn.sin() * gain, torch.zeros_like(turn)
    rows = [torch.stack(row, 1) for row in ((zero + 1, zero, zero), (zero, cos, -sin), (zero, sin, cos))]
    there, back = (matrix.to(images.device) for matrix in (YIQ_FROM_RGB, RGB_FROM_YIQ))
    return torch.einsum("bij,bjhw->bihw", back @ torch.stack(rows, 1) @ there, images)


def _perturb_light(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Brightness and contrast: another lamp, another camera curve."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    gain = 1 + _uniform(images, generator, -config.contrast, config.contrast)
    return (images - mean) * gain + mean + _uniform(images, generator, -config.brightness, config.brightness)


def _perturb_focus(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Blur one half of the images and sharpen the other: other scanners, other focus."""
    if not config.blur_sigma_px and not config.sharpen:
        return images
    strength = _uniform(images, generator, -1, 1)  # below 0 blur, above 0 sharpen
    sigma = torch.where(strength < 0, -strength * config.blur_sigma_px, torch.ones_like(strength)).clamp(min=0.05)
    blurred = _gaussian_blur(images, sigma.flatten(), radius_px=math.ceil(3 * max(1.0, config.blur_sigma_px)))
    return torch.where(strength < 0, blurred, images + strength * config.sharpen * (images - blurred))


def _gaussian_blur(images: Tensor, sigma_px: Tensor, radius_px: int) -> Tensor:
    """Blur each image with its own sigma (B,), separably, with mirrored borders."""
    batch, channels, height, width = images.shape
    steps = torch.arange(-radius_px, radius_px + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(steps**2) / (2 * sigma_px[:, None] ** 2), dim=1)  # (B, 2 radius_px + 1)
    kernel = kernel.repeat_interleave(channels, 0)[:, None, None, :]  # (3 B, 1, 1, taps)
    flat = images.reshape(1, batch * channels, height, width)
    flat = F.conv2d(F.pad(flat, (radius_px, radius_px, 0, 0), mode="reflect"), kernel, groups=batch * channels)
    flat = F.conv2d(
        F.pad(flat, (0, 0, radius_px, radius_px), mode="reflect"), kernel.transpose(2, 3), groups=batch * channels
    )
    return flat.view_as(images)


def _uniform(images: Tensor, generator: Generator, low: float, high: float) -> Tensor:
    """One draw an image: float (B, 1, 1, 1) in [low, high)."""
    draw = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)
    return low + (high - low) * draw
