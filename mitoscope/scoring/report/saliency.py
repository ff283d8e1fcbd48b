"""Where the networks looked: Grad-CAM (Selvaraju et al., ICCV 2017), by captum.

A network of this project has one output, the logit of *atypical*; the map is of that. The paper drops what is below
zero; here both signs are kept, see `quantise`.
"""

import math
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from mitoscope.classify.classifier import Classifier
from mitoscope.classify.orientation import find_standard, from_standard, to_standard
from mitoscope.classify.preprocess import preprocess
from mitoscope.errors import DataError
from mitoscope.images import CROP_PX
from mitoscope.networks.device import DTYPES
from mitoscope.networks.views import turn, turn_back

LEAST_CELLS = 7  # a side; EfficientViT's last stage has 4 × 4 at 128 px, the one before 8 × 8
BATCH_SIZE = 32


class Saliency:
    """Grad-CAM of all members of a classifier.

    The maps are those of the deepest of the stages that timm lists in ``feature_info`` whose grid has 7 × 7 cells or
    more: deeper grids are too coarse to point at a chromosome. Of a plain transformer's stages, all of one grid, it is
    the last but one: what leaves the last one's patches does not reach the class token.

    Args:
        classifier: Best at fp32: gradients of half precision may vanish.

    Raises:
        DataError: A network has no such stage.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._input, self._device, self._dtype = (
            classifier.bundle.input,
            classifier.device,
            DTYPES[classifier.precision],
        )
        blank = self._prepare(torch.zeros((1, CROP_PX, CROP_PX, 3), dtype=torch.uint8))
        self._probes = [_Probe(network, *_choose_stage(network, blank)) for network in classifier.members]
        self._orientations = [member.orientations for member in classifier.bundle.members]

    def maps(self, crops: np.ndarray) -> np.ndarray:
        """Compute which parts of each crop the logit of *atypical* depends on.

        Args:
            crops: uint8 (N, 128, 128, 3), RGB in [0, 255].

        Returns:
            float32 (N, H, W): the members' mean map over the central ``crop_px`` square of each crop (`InputSpec`), in
            units of the logit that differ from crop to crop.
        """
        batches = [self._mean_map(crops[i : i + BATCH_SIZE]) for i in range(0, len(crops), BATCH_SIZE)]
        together: np.ndarray = np.concatenate(batches)
        return together

    def _mean_map(self, crops: np.ndarray) -> np.ndarray:
        """One batch: float32 (B, H, W)."""
        pixels = torch.as_tensor(crops)
        flips = find_standard(pixels) if any(self._orientations) else torch.zeros(3, len(pixels), dtype=torch.bool)
        images = self._prepare(to_standard(pixels, flips))
        maps = [
            torch.stack([turn_back(probe.map(turn(images, seen)), seen) for seen in orientations or (0,)]).mean(dim=0)
            for probe, orientations in zip(self._probes, self._orientations, strict=True)
        ]
        mean: np.ndarray = from_standard(torch.stack(maps).mean(dim=0).cpu(), flips).numpy()
        return mean

    def _prepare(self, crops: Tensor) -> Tensor:
        """The networks' input."""
        return preprocess(crops, self._input, self._device).to(self._dtype)


def quantise(maps: np.ndarray) -> np.ndarray:
    """The sizes of a map's values, without their signs: float (N, H, W) → uint8, 255 for the largest of each map.

    What the page shows is where a picture matters, not for which class: with weights/lite, blurring the cells with the
    lowest values, below zero, moves the logit on AtNorM-Br as much as blurring those with the highest
    (`python -m tools.bench.saliency`).
    """
    sizes = np.abs(maps)
    largest = sizes.max(axis=(1, 2), keepdims=True)
    scaled = np.divide(sizes, largest, out=np.zeros_like(sizes), where=largest > 0)
    whole: np.ndarray = np.rint(255 * scaled).astype(np.uint8)
    return whole


class _Probe:
    """A layer through which one network's stage passes its output as a map (B, C, H, W), whatever its own layout."""

    def __init__(self, network: nn.Module, stage: str, n_channels: int) -> None:
        self._stage, self._n_channels, self._layer = network.get_submodule(stage), n_channels, nn.Identity()
        self._gradcam = LayerGradCam(network.requires_grad_(False), self._layer)  # of the map alone: less to remember

    def map(self, images: Tensor) -> Tensor:
        """Grad-CAM of a batch: (B, H, W)."""
        with self._stage.register_forward_hook(self._pass), torch.enable_grad():
            found: Tensor = self._gradcam.attribute(images, target=0)  # (B, 1, H, W)
        return found.squeeze(1).float().detach()

    def _pass(self, _stage: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        """The stage's output, unchanged, after the layer has seen it; no gradient goes further back than this."""
        output, show = output.detach(), self._layer
        if output.ndim == 3:  # a transformer's tokens
            side = math.isqrt(output.shape[1])
            n_prefix = output.shape[1] - side**2  # class token and registers
            prefix, patches = output[:, :n_prefix], output[:, n_prefix:]
            grid = patches.reshape(len(output), side, side, -1)
            seen = show(grid.permute(0, 3, 1, 2).requires_grad_()).permute(0, 2, 3, 1).reshape(patches.shape)
            return torch.cat([prefix, seen], dim=1)
        if output.shape[1] != self._n_channels:  # channels last
            seen = show(output.permute(0, 3, 1, 2).requires_grad_()).permute(0, 2, 3, 1)
        else:
            seen = show(output.requires_grad_())
        passed: Tensor = seen.clone()  # what follows may write into it
        return passed


def _choose_stage(network: nn.Module, blank: Tensor) -> tuple[str, int]:
    """The name of the stage to look at and the number of its channels; blank: some input (1, 3, size_px, size_px)."""
    channels = {stage["module"]: stage["num_chs"] for stage in getattr(network, "feature_info", [])}
    shapes: dict[str, tuple[int, ...]] = {}
    with ExitStack() as hooks, torch.inference_mode():
        for name in channels:
            note = partial(_note_shape, shapes, name)
            hooks.enter_context(network.get_submodule(name).register_forward_hook(note))
        network(blank)
    fine = [name for name, shape in shapes.items() if _cells(shape, channels[name]) >= LEAST_CELLS]
    if not fine:
        raise DataError(
            f"no map can be drawn of a {type(network).__name__}",
            got=f"stages of shape {list(shapes.values())}",
            expected=f"one with a grid of {LEAST_CELLS} x {LEAST_CELLS} or more",
            remedy="use --no-saliency",
        )
    chosen = fine[-2] if len(shapes[fine[-1]]) == 3 and len(fine) > 1 else fine[-1]
    return chosen, channels[chosen]


def _note_shape(shapes: dict[str, tuple[int, ...]], name: str, _stage: object, _inputs: object, output: Tensor) -> None:
    """A forward hook that remembers the shape of a stage's output."""
    shapes[name] = tuple(output.shape)


def _cells(shape: tuple[int, ...], n_channels: int) -> int:
    """Cells on a side of a stage's grid: (B, C, H, W), (B, H, W, C) or a transformer's (B, tokens, C)."""
    if len(shape) == 3:
        return math.isqrt(shape[1])
    return shape[2] if shape[1] == n_channels else shape[1]
