"""What an epoch draws, by a seed and the epoch's number alone, so that resuming changes nothing; and its batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class EpochSampler(Sampler[Any]):
    """Draws an epoch's samples.

    Args:
        draw: A generator → what the data set is indexed with, in order.
        n_draws: How many it draws.
        seed: Of the draws.
    """

    def __init__(self, draw: Callable[[Generator], Sequence[Any]], n_draws: int, seed: int) -> None:
        self.draw, self.n_draws, self.seed, self.epoch = draw, n_draws, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_draws

    def __iter__(self) -> Iterator[Any]:
        return iter(self.draw(Generator().manual_seed(self.seed * 1_000_003 + self.epoch)))


def load_batches(
    dataset: Dataset[dict[str, Tensor]], size: int, sampler: EpochSampler | None = None
) -> "DataLoader[dict[str, Tensor]]":
    """Batches of a data set that returns whole batches.

    Args:
        dataset: Indexed with a list, it returns a batch.
        size: Samples a batch.
        sampler: Of an epoch. The last, smaller batch is then left out: batch norm needs more than one sample. None:
            every sample once, in order.
    """
    own = Generator()  # otherwise a resumed run draws from the global one at other moments
    return DataLoader(dataset, size, sampler=sampler, collate_fn=_as_is, drop_last=sampler is not None, generator=own)


def _as_is(batch: Any) -> Any:  # noqa: ANN401 - DataLoader passes a list here; these data sets return whole batches
    """The data set already returns whole batches."""
    return batch
