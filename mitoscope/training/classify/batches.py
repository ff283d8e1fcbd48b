"""Prepared crops → batches of tensors. `prepare` decoded them; a batch is read from the memory map."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mitoscope.training.classify.settings import ClassifyConfig
from mitoscope.training.data.sampler import EpochSampler, load_batches
from mitoscope.training.data.table import SUBCLASSES, CropData

Batch = dict[str, Tensor]


class CropDataset(Dataset[Batch]):
    """Some rows of a data folder. Indexed with a list, it returns a whole batch."""

    def __init__(self, data: CropData, rows: np.ndarray, vote_weight: float = 0.0) -> None:
        self.crops, self.rows = data.crops, rows
        table = data.table.iloc[rows]
        label = data.is_atypical[rows].astype(np.float32)
        votes = table["atypical_votes"].to_numpy(np.float32)
        votes = np.where(np.isnan(votes), label, votes)
        self.labels = torch.from_numpy(label).long()
        self.targets = torch.from_numpy((1 - vote_weight) * label + vote_weight * votes).float()
        self.subclasses = torch.from_numpy(_subclass_shares(table["subclass_1"].tolist(), table["subclass_2"].tolist()))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The batch of the given positions; see `mitoscope.training.classify.module.FoldModule` for its shapes."""
        chosen = torch.tensor(indices)
        return {
            "crops": torch.from_numpy(self.crops[self.rows[indices]]),
            "targets": self.targets[chosen],
            "subclasses": self.subclasses[chosen],
            "labels": self.labels[chosen],
        }

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])


def crop_weights(labels: Tensor, atypical_share: float) -> Tensor:
    """The chance of each crop in each draw.

    Args:
        labels: int64 (N,), 1 for atypical.
        atypical_share: Share of atypical crops among those drawn, above 0.

    Returns:
        float64 (N,), summing to 1.
    """
    n_atypical = int(labels.sum())
    each = torch.tensor(
        [(1 - atypical_share) / (len(labels) - n_atypical), atypical_share / n_atypical], dtype=torch.float64
    )
    return each[labels]


def crop_sampler(labels: Tensor, atypical_share: float, seed: int, draws: int = 0) -> EpochSampler:
    """Draws crops by `crop_weights`, with replacement; with a share of 0 every crop once, shuffled.

    draws: how many an epoch; 0: as many as there are crops.
    """
    count = draws or len(labels)

    def draw(generator: torch.Generator) -> list[int]:
        if not atypical_share:
            return torch.randperm(len(labels), generator=generator).tolist()
        weights = crop_weights(labels, atypical_share)
        return torch.multinomial(weights, count, replacement=True, generator=generator).tolist()

    return EpochSampler(draw, count, seed)


def training_batches(dataset: CropDataset, config: ClassifyConfig, seed: int) -> "DataLoader[Batch]":
    """Batches of weighted draws."""
    sampler = crop_sampler(dataset.labels, config.part.atypical_share, seed, config.part.draws)
    return load_batches(dataset, min(config.batch_size, len(dataset)), sampler)


def validation_batches(dataset: CropDataset) -> "DataLoader[Batch]":
    """Every crop once, in the table's order."""
    return load_batches(dataset, 64)


def _subclass_shares(first: list[object], second: list[object]) -> np.ndarray:
    """float32 (N, 8): the mean of the two experts' one-hot sub-classes; all 0 where neither is known."""
    shares = np.zeros((len(first), len(SUBCLASSES)), dtype=np.float32)
    for expert in (first, second):
        for row, name in enumerate(expert):
            if isinstance(name, str):  # NaN where unknown
                shares[row, SUBCLASSES.index(name)] += 1
    total = shares.sum(axis=1, keepdims=True)
    np.divide(shares, total, out=shares, where=total > 0)
    return shares
