from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Bundle, Member, Threshold
from mitoscope.detect.detector import Detector
from mitoscope.detect.tiles import Span, Tile
from mitoscope.images.slide import Mpp, Slide
from mitoscope.images.source import ArraySource
from mitoscope.training.augment import AugmentConfig, augment
from mitoscope.training.data.fields import FieldData
from mitoscope.training.detect.batches import BEYOND, PatchDataset, TileDataset, training_batches
from mitoscope.training.detect.module import move_figures
from mitoscope.training.detect.settings import DetectSettings
from mitoscope.training.settings import FitConfig

ONLY_GEOMETRY = AugmentConfig(
    stain_scale=0, stain_shift=0, zoom=0.2, stretch=0.1, translate_px=4, brightness=0, contrast=0, blur_sigma_px=0,
    sharpen=0, noise=0,
)  # fmt: skip
SPEC = InputSpec(crop_px=64, size_px=64, mean=(0.0,) * 3, std=(1.0,) * 3, mpp=0.5)
SETTINGS = DetectSettings(input=SPEC, augment=ONLY_GEOMETRY)
ROWS = np.arange(6)


def test_a_figure_is_where_the_batch_says(fields: FieldData) -> None:
    dataset = PatchDataset(fields, ROWS, SETTINGS)
    draws = list(dataset.patches.sampler(64, seed=0))
    batch = dataset.__getitems__(draws)
    side = 64 + 2 * dataset.margin_px
    assert batch["windows"].shape == (64, side, side, 3)
    assert len(batch["figures"]) > 32  # around half of the draws there is one
    for number, x, y, kind in batch["figures"].tolist():
        assert kind == 0
        assert batch["windows"][int(number), int(y), int(x)].tolist() == [70, 40, 110]


def test_a_figure_stays_under_its_label_however_the_window_is_turned(fields: FieldData) -> None:
    dataset = PatchDataset(fields, ROWS, SETTINGS)
    batch = dataset.__getitems__(list(dataset.patches.sampler(64, seed=0)))
    windows = batch["windows"]
    images, affine = augment(windows, SPEC, ONLY_GEOMETRY, torch.Generator().manual_seed(0))
    figures = move_figures(batch["figures"], affine, windows.shape[1], 64)
    assert 32 < len(figures) <= len(batch["figures"])
    red = torch.stack([images[int(n), 0, int(y), int(x)] for n, x, y, _ in figures.tolist()]) * 255
    assert (red < 100).float().mean() > 0.99  # the spot is 70, what is around it 225; one may be under another's edge


def test_a_patch_lies_inside_of_its_field_and_its_margin_may_be_glass(fields: FieldData) -> None:
    dataset = PatchDataset(fields, ROWS, SETTINGS)
    assert dataset.margin_px > 0
    windows = dataset.__getitems__(list(dataset.patches.sampler(200, seed=3)))["windows"].numpy()
    inner = slice(dataset.margin_px, -dataset.margin_px)
    assert not (windows[:, inner, inner] == BEYOND).all(axis=3).any()
    assert (windows == BEYOND).all(axis=3).any()


def test_a_tile_that_is_larger_than_its_field_looks_as_in_inference(fields: FieldData) -> None:
    spec = replace(SPEC, crop_px=256, size_px=256, density_mean=(0.2, 0.6, 0.3), density_std=(0.1, 0.2, 0.1))
    [window] = TileDataset(fields, ROWS[:1], replace(SETTINGS, input=spec))[0]["windows"].numpy()
    bundle = Bundle(
        Path(),
        "b",
        "a",
        spec,
        Threshold(0.5, "fixed", "nothing", 0),
        (Member("a.safetensors", ""),),
        "detect",
        ("mitotic figure",),
    )
    detector = Detector(bundle, [nn.Identity()], torch.device("cpu"), "fp32")
    slide = Slide(Path("a1"), ArraySource(fields.field(0)), Mpp(0.5, 0.5, "given"), ())
    size = Span(0, len(window), 0, len(window))
    np.testing.assert_array_equal(window, detector.read(slide, Tile(size, size)))
    assert window[-1, -1].tolist() != [BEYOND] * 3  # glass becomes darker or brighter, too


def test_tiles_show_every_figure_of_a_field(fields: FieldData) -> None:
    tiles = TileDataset(fields, ROWS, SETTINGS)
    batch = tiles.__getitems__(list(range(len(tiles))))
    assert len(tiles) == 6 * 9  # 192 × 160 px in tiles of 64
    found = {
        (
            *batch["places"][int(n), :1].tolist(),
            x + int(batch["places"][int(n), 1]),
            y + int(batch["places"][int(n), 2]),
        )
        for n, x, y, _ in batch["figures"].tolist()
    }
    wanted = fields.points_of(ROWS).query("label == 'mitotic figure'")[["row", "x_px", "y_px"]]
    assert found == set(wanted.astype(float).itertuples(index=False, name=None))
    whole = batch["windows"][0].numpy()
    np.testing.assert_array_equal(whole, fields.field(0)[:64, :64])


def test_an_epoch_has_whole_batches_of_the_patches_that_the_settings_say(fields: FieldData) -> None:
    config = FitConfig(DetectSettings(input=SPEC, patches_per_epoch=20), batch_size=8)
    loader = training_batches(PatchDataset(fields, ROWS, config.part), config, seed=0)
    assert [len(batch["windows"]) for batch in loader] == [8, 8]
