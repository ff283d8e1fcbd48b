from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision.ops import box_iou

from mitoscope.networks.build import build_detector
from mitoscope.networks.rtmdet import STRIDES
from mitoscope.settings import override
from mitoscope.training.data.fields import FieldData
from mitoscope.training.detect.batches import Figures, TileDataset
from mitoscope.training.detect.loss import flatten_grids
from mitoscope.training.detect.module import DetectModule, average_weights
from mitoscope.training.detect.settings import PRESETS

ROWS = np.arange(6)


@pytest.fixture
def module(fields: FieldData) -> DetectModule:
    torch.manual_seed(0)
    config = override(PRESETS["detector-smoke"], ["more_ema_decays=[0.5]"])
    module = DetectModule(config, total_steps=4, seed=0, figures=Figures(fields, ROWS, config.part))
    module.log = lambda *_, **__: None
    return module


def test_averages_follow_at_their_own_rates_and_shared_convolutions_move_once() -> None:
    network = build_detector("rtmdet_tiny", 1)
    fast, slow = average_weights(network, 0.2), average_weights(network, 0.05)
    shared = network.bbox_head.cls_convs[0][0].conv.weight
    torch.nn.init.zeros_(shared)
    for average in (fast, slow):
        average.update_parameters(network)  # the first is a copy
    torch.nn.init.ones_(shared)
    for average, decay in ((fast, 2 / 11), (slow, 0.05)):  # after one step at most (1 + 1) / (10 + 1)
        average.update_parameters(network)
        moved = average.module.bbox_head.cls_convs[2][0].conv.weight
        torch.testing.assert_close(moved, torch.full_like(moved, 1 - decay))
        assert not average.training


def test_every_set_of_weights_is_kept_and_loads(module: DetectModule) -> None:
    states = {"member": module.published_state(), **module.other_states()}
    assert list(states) == ["member", "raw", "ema_0.5"]
    network = build_detector("test_resnet", 1)
    for state in states.values():
        network.load_state_dict(safetensors.torch.load(safetensors.torch.save(state)))


def test_boxes_start_with_the_size_of_a_figure(module: DetectModule) -> None:
    with torch.no_grad():
        _, boxes, cells = flatten_grids(*module.network(torch.randn(1, 3, 96, 96)))
    wanted = torch.cat([cells[:, :2] - 12.5, cells[:, :2] + 12.5], dim=1)
    assert box_iou(boxes[0], wanted).diagonal().median() > 0.8


def test_validation_sees_figures_where_the_network_puts_them(module: DetectModule, fields: FieldData) -> None:
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    tiles = TileDataset(fields, ROWS, module.config.part)
    box_px, sides = module.config.part.box_px, [tiles.side_px // stride for stride in STRIDES]

    class Oracle(torch.nn.Module):
        """Finds every figure of the batch at the cell nearest to it."""

        def forward(self, _images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            n_images = len(batch["windows"])
            logits = [torch.full((n_images, 1, side, side), -9.0) for side in sides]
            for number, x, y, _ in batch["figures"].tolist():
                logits[0][int(number), 0, min(sides[0] - 1, round(y / 8)), min(sides[0] - 1, round(x / 8))] = 5.0
            return logits, [torch.full((n_images, 4, side, side), box_px / 2) for side in sides]

    module.averages[0] = Oracle()
    for start in range(0, len(tiles), 4):
        batch = tiles.__getitems__(list(range(start, min(start + 4, len(tiles)))))
        module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    assert logged["val_f1"] > 0.85  # some figures lie on each other
    assert logged["val_threshold"] == pytest.approx(torch.tensor(5.0).sigmoid())
    assert module.found == []


def test_a_step_of_two_classes_has_a_loss(fields: FieldData) -> None:
    preset = PRESETS["detector-smoke"]
    config = replace(preset, part=replace(preset.part, classes=("mitotic figure", "hard negative")))
    module = DetectModule(config, total_steps=4, seed=0, figures=Figures(fields, ROWS, config.part))
    module.log = lambda *_, **__: None
    module.generator = torch.Generator().manual_seed(0)
    batch = TileDataset(fields, ROWS, config.part).__getitems__([0, 1, 2, 3])
    assert set(batch["figures"][:, 3].tolist()) == {0, 1}
    loss = module.training_step(batch, 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert module.network.bbox_head.rtm_cls[0].weight.grad.abs().sum() > 0
