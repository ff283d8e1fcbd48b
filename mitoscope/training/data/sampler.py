"""What an epoch draws, by a seed and the epoch's number alone, so that resuming changes nothing."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Generator
from torch.utils.data import Sampler


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
