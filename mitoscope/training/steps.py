"""What the training steps of every task share: optimiser and schedule, seeds by epoch, a check of the loss."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mitoscope.errors import DataError
from mitoscope.training.settings import FitConfig


def make_optimiser(
    config: FitConfig[Any], backbone: Sequence[nn.Parameter], heads: Sequence[nn.Parameter], total_steps: int
) -> Any:  # noqa: ANN401 - Lightning's own union of dicts
    """AdamW; linear warm-up, then half a cosine down to 0, by step.

    Args:
        config: The settings.
        backbone: What learns at ``backbone_rate`` of the rate.
        heads: The rest.
        total_steps: Of the whole fit.
    """
    peak, slower = config.learning_rate, config.backbone_rate
    parts: list[tuple[Sequence[nn.Parameter], float]] = [(backbone, slower * peak), (heads, peak)]
    if slower == 1:
        parts = [([*backbone, *heads], peak)]
    groups = [
        {"params": [p for p in part if (p.ndim > 1) == decays], "lr": rate, "weight_decay": decay}
        for part, rate in parts
        for decays, decay in ((True, config.weight_decay), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups)
    warmup, total = config.warmup_steps, max(total_steps, config.warmup_steps + 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / (total - warmup))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def seed_epoch(seed: int, epoch: int, device: torch.device) -> Generator:
    """Seed torch by epoch, so that a run that is resumed continues like one that was never interrupted.

    Returns:
        A generator on the device, with the same seed, for the augmentation.
    """
    seed = (seed * 1_000_003 + epoch) % 2**31
    torch.manual_seed(seed)
    return Generator(device).manual_seed(seed)


def check_loss(loss: Tensor, step: int) -> None:
    """Stop a fit whose loss is infinite or not a number.

    Raises:
        DataError: It is.
    """
    if not torch.isfinite(loss):
        raise DataError(
            f"the loss is not a number at step {step}",
            got=loss.item(),
            expected="a finite loss",
            remedy="lower --set learning_rate=… or use --set precision=32-true",
        )
