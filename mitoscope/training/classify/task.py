"""The classifier as the fit loop trains it: module, batches, and the predictions of the validation fold."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from mitoscope.bundle.manifest import Bundle, Member, Threshold
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.orientation import choose_orientations
from mitoscope.networks.device import choose_device
from mitoscope.training.bases.weights import find_weights, read_base_weights
from mitoscope.training.classify.batches import CropDataset, training_batches, validation_batches
from mitoscope.training.classify.module import FoldModule
from mitoscope.training.classify.settings import ClassifyConfig
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds
from mitoscope.training.task import MemberFit


def make_member(config: ClassifyConfig, data: CropData, folds: Folds, fold: int) -> MemberFit:
    """Make what trains one member.

    Args:
        config: The settings.
        data: The crops.
        folds: The split.
        fold: Which member.
    """
    seed = config.seed + fold
    trained, validated = data.rows_of(folds.train_ids(fold)), data.rows_of(list(folds.folds[fold]))
    loader = training_batches(CropDataset(data, trained, config.part.vote_weight), config, seed)

    def predict(state: Mapping[str, Tensor]) -> pd.DataFrame:
        return predict_rows(config, state, data, validated, fold)

    return MemberFit(
        module=FoldModule(config, total_steps=len(loader) * config.epochs, seed=seed),
        training=loader,
        validation=validation_batches(CropDataset(data, validated)),
        score="val_balanced_accuracy",
        predict=predict,
    )


def predict_rows(
    config: ClassifyConfig, state: Mapping[str, Tensor], data: CropData, rows: np.ndarray, fold: int
) -> pd.DataFrame:
    """What a member predicts of some crops, as a bundle of this one member would, in fp32.

    Args:
        config: The settings.
        state: The member's published tensors.
        data: The crops.
        rows: int64 (n,), which of them.
        fold: The member's number, which decides its orientations.

    Returns:
        ``image_id``, ``label`` and ``p_atypical`` of each.
    """
    bundle = Bundle(
        folder=Path(),
        name="unpublished",
        architecture=config.architecture,
        input=config.part.input,
        threshold=Threshold(0.5, "one_half", "nothing", 0),
        members=(Member("member.safetensors", "", orientations=choose_orientations(fold, config.part.orientations)),),
    )
    base = None
    if config.part.method != "full":
        path = find_weights(config.architecture, Path(config.init) if config.init else None)
        base = read_base_weights(config.architecture, path)
    classifier = Classifier.of(bundle, iter([state]), choose_device("auto"), "fp32", base)
    (p_atypical,) = classifier.predict_members(data.crops[rows])
    return data.table.iloc[rows][["image_id", "label"]].assign(p_atypical=p_atypical)
