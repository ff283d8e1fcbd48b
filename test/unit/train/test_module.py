import pytest
import torch
from torch.nn import functional as F

from train.module import focal_loss

LOGITS = torch.linspace(-4, 4, 9)
HARD = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0])


@pytest.mark.parametrize("targets", [HARD, HARD * 0.8 + 0.1], ids=["hard", "soft"])
def test_focal_loss_with_gamma_0_is_cross_entropy(targets: torch.Tensor) -> None:
    torch.testing.assert_close(focal_loss(LOGITS, targets, 0.0), F.binary_cross_entropy_with_logits(LOGITS, targets))


def test_focal_loss_is_the_published_formula() -> None:
    p_true = torch.where(HARD == 1, LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    torch.testing.assert_close(focal_loss(LOGITS, HARD, 2.0), (-((1 - p_true) ** 2) * p_true.log()).mean())
