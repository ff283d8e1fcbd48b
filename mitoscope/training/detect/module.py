"""One detector in training: network, loss, optimiser and moving averages, as a Lightning module."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mitoscope.bundle.inputs import InputSpec
from mitoscope.networks.build import BACKBONE
from mitoscope.networks.rtmdet import STRIDES, RTMDet
from mitoscope.networks.views import normalise
from mitoscope.scoring.detection.regions import Group, Region
from mitoscope.scoring.detection.sweep import sweep_regions
from mitoscope.training.augment import augment
from mitoscope.training.bases.pretrained import start_detector
from mitoscope.training.detect.batches import Batch, Figures
from mitoscope.training.detect.candidates import find_candidates, merge
from mitoscope.training.detect.loss import find_loss
from mitoscope.training.detect.mosaic import make_mosaics
from mitoscope.training.detect.settings import DetectConfig
from mitoscope.training.steps import check_loss, make_optimiser, seed_epoch
from mitoscope.training.task import MemberModule

FLOOR = 0.05  # least probability of a candidate that validation looks at


def average_weights(network: nn.Module, decay: float) -> AveragedModel:
    """A moving average of all weights and batch-norm statistics.

    After n steps it decays by (1 + n) / (10 + n) at most, so that it soon forgets the start.
    """

    @torch.no_grad()
    def move(averaged: Any, current: Any, n_averaged: Any) -> None:  # noqa: ANN401 - torch's own signature
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        n = float(n_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    average = AveragedModel(network, multi_avg_fn=move, use_buffers=True)
    return average.requires_grad_(False).eval()


def start_boxes(network: RTMDet, side_px: float) -> None:
    """Let every cell start with a box of the figures' size around it.

    The loss weighs a box by its overlap with the figure: boxes without a size, with which RTMDet starts, learn nothing.
    """
    for conv, stride in zip(network.bbox_head.rtm_reg, STRIDES, strict=True):
        nn.init.constant_(conv.bias, side_px / 2 / stride)  # type: ignore[arg-type]


def move_figures(figures: Tensor, affine: Tensor, side_px: int, size_px: int) -> Tensor:
    """Where the figures of windows are in the network's input.

    Args:
        figures: float (G, 4): number of the window, x and y in its pixels, class.
        affine: float (B, 2, 3), see `mitoscope.training.augment.draw_affine`.
        side_px: Of the windows.
        size_px: Of the input.

    Returns:
        float (G', 4), those that are still inside.
    """
    own = affine[figures[:, 0].long()]  # (G, 2, 3)
    place = 2 * figures[:, 1:3] / side_px - 1 - own[:, :, 2]
    moved = (torch.linalg.solve(own[:, :, :2], place) + 1) / 2 * size_px
    inside = ((moved >= 0) & (moved < size_px)).all(dim=1)
    return torch.cat([figures[:, :1], moved, figures[:, 3:]], dim=1)[inside]


def make_boxes(figures: Tensor, n_images: int, side_px: float) -> tuple[list[Tensor], list[Tensor]]:
    """The boxes (G, 4) and classes (G,) of each image, from figures (G, 4) as `move_figures` has them."""
    centres = figures[:, 1:3]
    boxes = torch.cat([centres - side_px / 2, centres + side_px / 2], dim=1)
    own = [figures[:, 0] == number for number in range(n_images)]
    return [boxes[rows] for rows in own], [figures[rows, 3].long() for rows in own]


def prepare_tiles(windows: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (B, S, S, 3) → the network's input, float (B, 3, S, S), channels-last."""
    return normalise(windows.permute(0, 3, 1, 2).float() / 255, spec).contiguous(memory_format=torch.channels_last)


class DetectModule(MemberModule):
    """Trains one detector; validates and publishes the moving average of its weights, and keeps all of them.

    Args:
        config: The settings.
        total_steps: Of the whole fit.
        seed: Of augmentation and weights.
        figures: Of the fields that validate.
    """

    def __init__(self, config: DetectConfig, total_steps: int, seed: int, figures: Figures) -> None:
        super().__init__()
        self.config, self.total_steps, self.seed, self.figures = config, total_steps, seed, figures
        part = config.part
        network = start_detector(
            config.architecture,
            len(part.classes),
            pretrained=config.pretrained,
            init=config.init,
            init_is_bgr=part.init_is_bgr,
        )
        if isinstance(network, RTMDet) and not config.init:
            start_boxes(network, part.box_px)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs
        self.decays = (config.ema_decay, *part.more_ema_decays)
        averages = [average_weights(self.network, decay) for decay in self.decays]
        self.averages: Sequence[AveragedModel] = nn.ModuleList(averages)  # type: ignore[assignment]  # it is one, too
        self.found: list[Tensor] = []  # in validation: (K, 7), the field's row before what find_candidates returns

    def on_train_epoch_start(self) -> None:
        """Seed by epoch."""
        self.generator = seed_epoch(self.seed, self.current_epoch, self.device)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """One step's loss."""
        part, windows = self.config.part, batch["windows"]
        with torch.autocast(self.device.type, enabled=False):  # half precision moves pixels and stains
            images, affine = augment(windows, part.input, part.augment, self.generator)
            figures = move_figures(batch["figures"], affine, windows.shape[1], part.input.size_px)
            if part.mosaic:
                images, figures = make_mosaics(images, figures, part.mosaic, self.generator)
        focal, box = self._loss(self.network(images), figures, len(windows))
        loss = focal + box
        check_loss(loss, self.global_step)
        for name, value in (("train_loss", loss), ("train_focal", focal), ("train_box", box)):
            self.log(name, value, on_step=False, on_epoch=True, batch_size=len(windows))
        return loss

    def _loss(self, grids: Sequence[list[Tensor]], figures: Tensor, n_images: int) -> tuple[Tensor, Tensor]:
        """Of the classes and of the boxes, in fp32."""
        boxes, classes = make_boxes(figures, n_images, self.config.part.box_px)
        with torch.autocast(self.device.type, enabled=False):
            return find_loss(self.config.architecture)(*grids, boxes, classes)

    def on_train_batch_end(self, *_: object) -> None:
        """Move the averages."""
        for average in self.averages:
            average.update_parameters(self.network)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """The loss of the average, and its candidates in the fields' pixels."""
        grids = self.averages[0](prepare_tiles(batch["windows"], self.config.part.input))
        loss = sum(self._loss(grids, batch["figures"], len(batch["windows"])))
        self.log("val_loss", loss, batch_size=len(batch["windows"]), prog_bar=True)
        self.found += place_candidates(find_candidates(grids, FLOOR), batch["places"])

    def on_validation_epoch_end(self) -> None:
        """The scoring's best F1, all classes and fields together; the same labels have chosen the threshold."""
        found = group_candidates(self.found)
        self.found = []
        mm, none, regions = self.config.part.input.mpp / 1000, torch.empty(0, 6), []
        for row, truth in self.figures.of_row.items():
            for number, name in enumerate(self.config.part.classes):
                own = found.get(row, none).double().numpy()
                own, figures = own[own[:, 5] == number], truth[truth[:, 2] == number, :2].astype(np.float64)
                called = np.ones(len(own), dtype=bool)
                regions.append(
                    Region(f"{row} {name}", mm * _centres(own), own[:, 4], called, mm * figures, np.empty((0, 2)))
                )
        best = sweep_regions(Group("validation", regions, None))
        self.log("val_f1", best.best_f1_score if best else 0.0, prog_bar=True)
        self.log("val_threshold", best.best_threshold if best else 1.0)

    def published_state(self) -> dict[str, Tensor]:
        """The first average."""
        return _copy_state(self.averages[0].module)

    def other_states(self) -> dict[str, dict[str, Tensor]]:
        """The raw weights, and the other averages."""
        averages = list(zip(self.decays, self.averages, strict=True))[1:]
        named = {f"ema_{decay:g}": average.module for decay, average in averages}
        return {name: _copy_state(network) for name, network in {"raw": self.network, **named}.items()}

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union of dicts
        """All but the backbone are the heads."""
        named = [*self.network.named_parameters()]
        backbone, heads = ([each for name, each in named if name.startswith(BACKBONE) is own] for own in (True, False))
        return make_optimiser(self.config, backbone, heads, self.total_steps)


def place_candidates(found: Sequence[Tensor], places: Tensor) -> list[Tensor]:
    """Tiles' candidates (K, 6) → (K, 7): the field's row, then the same in the field's pixels."""
    placed = []
    for candidates, (row, left, top) in zip(found, places.tolist(), strict=True):
        shift = torch.tensor([left, top, left, top, 0, 0], dtype=candidates.dtype)
        placed.append(torch.cat([torch.full((len(candidates), 1), float(row)), candidates + shift], dim=1))
    return placed


def group_candidates(placed: Sequence[Tensor]) -> Mapping[int, Tensor]:
    """By the field's row: its candidates (M, 6), of which each figure has one."""
    everything = torch.cat([torch.empty(0, 7), *placed])
    rows = everything[:, 0].long()
    return {int(row): merge(everything[rows == row, 1:]) for row in np.unique(rows)}


def _centres(candidates: np.ndarray) -> np.ndarray:
    """(M, 2), the boxes' middles."""
    return np.asarray((candidates[:, :2] + candidates[:, 2:4]) / 2)


def _copy_state(network: nn.Module) -> dict[str, Tensor]:
    """The tensors on the CPU, each with its own memory: grids share convolutions, files cannot."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
