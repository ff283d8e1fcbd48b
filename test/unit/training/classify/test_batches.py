import numpy as np
import torch

from mitoscope.settings import override
from mitoscope.training.classify.batches import CropDataset, crop_sampler, crop_weights, training_batches
from mitoscope.training.classify.settings import PRESETS
from mitoscope.training.data.table import CropData

LABELS = (torch.arange(2000) % 10 == 0).long()


def test_the_sampler_draws_the_share_that_its_weights_say() -> None:
    sampler = crop_sampler(LABELS, atypical_share=0.5, seed=0)
    assert torch.isclose(crop_weights(LABELS, 0.5)[LABELS == 1].sum(), torch.tensor(0.5, dtype=torch.float64))
    drawn = [LABELS[list(sampler)].double().mean().item() for epoch in range(20) if sampler.set_epoch(epoch) is None]
    assert abs(np.mean(drawn) - 0.5) < 4 * 0.5 / np.sqrt(20 * 2000)  # four standard errors


def test_share_0_draws_every_crop_once() -> None:
    assert sorted(crop_sampler(LABELS, atypical_share=0, seed=0)) == list(range(2000))


def test_an_epoch_is_the_same_whenever_it_is_drawn_and_unlike_the_next() -> None:
    first, resumed = crop_sampler(LABELS, 0.5, seed=3), crop_sampler(LABELS, 0.5, seed=3)
    list(first)
    for sampler in (first, resumed):
        sampler.set_epoch(7)
    seventh = list(resumed)
    assert list(first) == seventh
    resumed.set_epoch(8)
    assert list(resumed) != seventh


def test_training_draws_as_the_configuration_says(data: CropData) -> None:
    dataset = CropDataset(data, np.arange(80))
    for share in (0.0, 0.5, 0.9):
        config = override(PRESETS["lite"], [f"atypical_share={share}"])
        sampler = training_batches(dataset, config, seed=3).sampler
        assert list(sampler) == list(crop_sampler(dataset.labels, share, seed=3))


def test_a_batch_holds_the_crops_and_their_targets(data: CropData) -> None:
    batch = CropDataset(data, np.array([5, 8, 9]), vote_weight=0.5).__getitems__([1, 2])
    np.testing.assert_array_equal(batch["crops"], data.crops[[8, 9]])
    assert batch["labels"].tolist() == [1, 0]
    torch.testing.assert_close(batch["targets"], torch.tensor([0.5 + 0.5 * 2 / 3, 0.0]))
    torch.testing.assert_close(batch["subclasses"].sum(dim=1), torch.ones(2))
    assert batch["subclasses"][0].tolist() == [0, 0, 0, 0, 0, 0, 0.5, 0.5]
