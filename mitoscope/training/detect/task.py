"""The detector as the fit loop trains it: module, batches, and its candidates in the validation fold."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mitoscope.detect.tiles import LEAST_PX
from mitoscope.errors import DataError
from mitoscope.networks.build import build_detector
from mitoscope.networks.device import choose_device
from mitoscope.training.data.fields import FieldData
from mitoscope.training.detect.batches import PatchDataset, TileDataset, training_batches, validation_batches
from mitoscope.training.detect.candidates import find_candidates
from mitoscope.training.detect.module import DetectModule, group_candidates, place_candidates, prepare_tiles
from mitoscope.training.detect.patches import draw_fields
from mitoscope.training.detect.settings import DetectConfig
from mitoscope.training.folds import Folds
from mitoscope.training.task import MemberFit

FLOOR = 0.01  # least probability of a candidate in validation.csv


def make_member(config: DetectConfig, data: FieldData, folds: Folds, fold: int) -> MemberFit:
    """Make what trains one member.

    Args:
        config: The settings.
        data: The fields.
        folds: The split.
        fold: Which member; `mitoscope.training.folds.WHOLE` trains to the last epoch and is not validated.

    Raises:
        DataError: The fields were prepared for another resolution, or hold no such figures; or the tiles are too small.
    """
    if abs(data.mpp / config.part.input.mpp - 1) > 1e-6:
        raise DataError(
            "the fields were prepared for another preset",
            got=f"{data.mpp:g} µm per pixel",
            expected=f"{config.part.input.mpp:g}",
            remedy="run prepare again with this --preset and --set input.mpp=…",
        )
    if config.part.tile.size_px < LEAST_PX:
        raise DataError(
            "the tiles are too small for inference",
            got=f"{config.part.tile.size_px} px",
            expected=f"{LEAST_PX} px or more",
            remedy=f"add --set tile_px={LEAST_PX}; the patches may be smaller",
        )
    seed = config.seed + fold
    trained, validated = data.rows_of(folds.train_ids(fold)), data.rows_of(folds.validation_ids(fold))
    trained = draw_fields(data, trained, config.part.data_share, seed)
    loader = training_batches(PatchDataset(data, trained, config.part), config, seed)
    tiles = TileDataset(data, validated, config.part)

    def predict(state: Mapping[str, Tensor]) -> pd.DataFrame:
        return _predict(config, state, data, tiles)

    return MemberFit(
        module=DetectModule(config, len(loader) * config.epochs, seed, tiles.figures),
        training=loader,
        validation=validation_batches(tiles, config.batch_size) if len(validated) else None,
        score="val_loss",
        predict=predict,
        mode="min",
    )


@torch.inference_mode()
def _predict(config: DetectConfig, state: Mapping[str, Tensor], data: FieldData, tiles: TileDataset) -> pd.DataFrame:
    """image_id, x_px, y_px (as stored), p and label of all candidates, in fp32."""
    device = choose_device("auto")
    network = build_detector(config.architecture, len(config.part.classes))
    network.load_state_dict(state)
    network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    found = []
    for batch in validation_batches(tiles, config.batch_size):
        grids = network(prepare_tiles(batch["windows"].to(device), config.part.input))
        found += place_candidates(find_candidates(grids, FLOOR), batch["places"])
    names, tables = data.table["image_id"].to_numpy(), []
    for row, candidates in group_candidates(found).items():
        box = candidates.numpy().astype(np.float64)
        values = {"x_px": (box[:, 0] + box[:, 2]) / 2, "y_px": (box[:, 1] + box[:, 3]) / 2, "p": box[:, 4]}
        labels = np.array(config.part.classes)[box[:, 5].astype(int)]
        tables.append(pd.DataFrame({"image_id": names[row], **values, "label": labels}).round({"x_px": 2, "y_px": 2}))
    columns = ["image_id", "x_px", "y_px", "p", "label"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
