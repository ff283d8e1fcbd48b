import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mitoscope.errors import DataError
from mitoscope.settings import override
from mitoscope.training.classify.module import FoldModule, focal_loss
from mitoscope.training.classify.settings import PRESETS

LOGITS = torch.linspace(-4, 4, 9)
HARD = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0])


@pytest.mark.parametrize("targets", [HARD, HARD * 0.8 + 0.1], ids=["hard", "soft"])
def test_focal_loss_with_gamma_0_is_cross_entropy(targets: torch.Tensor) -> None:
    torch.testing.assert_close(focal_loss(LOGITS, targets, 0.0), F.binary_cross_entropy_with_logits(LOGITS, targets))


def test_focal_loss_is_the_published_formula() -> None:
    p_true = torch.where(HARD == 1, LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    torch.testing.assert_close(focal_loss(LOGITS, HARD, 2.0), (-((1 - p_true) ** 2) * p_true.log()).mean())


@pytest.fixture
def module() -> FoldModule:
    torch.manual_seed(0)
    config = override(
        PRESETS["lite"],
        ["architecture=test_resnet", "pretrained=false", "input.size_px=64", "ema_decay=0.5", "warmup_steps=4"],
    )
    module = FoldModule(config, total_steps=20, seed=0)
    module.generator = torch.Generator().manual_seed(0)
    return module


def test_a_loss_that_is_no_number_stops_the_run(module: FoldModule) -> None:
    crops = torch.zeros(4, 128, 128, 3, dtype=torch.uint8)
    batch = {"crops": crops, "targets": torch.full((4,), torch.nan), "subclasses": torch.zeros(4, 8)}
    with pytest.raises(DataError, match="the loss is not a number at step 0: got nan"):
        module.training_step(batch, 0)


def test_the_learning_rate_warms_up_and_falls_to_nothing(module: FoldModule) -> None:
    built = module.configure_optimizers()
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(20):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    peak = module.config.learning_rate
    assert rates[:5] == pytest.approx([peak / 4, peak / 2, peak * 3 / 4, peak, peak])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert schedule.get_last_lr()[0] == pytest.approx(0)


def test_only_matrices_decay(module: FoldModule) -> None:
    decayed, free = module.configure_optimizers()["optimizer"].param_groups
    assert decayed["weight_decay"] == module.config.weight_decay > free["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in free["params"])
    n_trained = sum(p.numel() for p in [*module.network.parameters(), *module.subclass_head.parameters()])
    assert sum(p.numel() for group in (decayed, free) for p in group["params"]) == n_trained


def test_what_is_published_is_the_average_not_the_last_step(module: FoldModule) -> None:
    before = module.network.get_classifier().weight.detach().clone()
    nn.init.constant_(module.network.get_classifier().weight, 1.0)
    for _ in range(3):
        module.ema.update(module.network)
    averaged = module.ema.module.get_classifier().weight
    expected = before
    for _ in range(3):
        expected = 0.5 * expected + 0.5
    torch.testing.assert_close(averaged, expected)


def test_the_backbone_may_learn_slower_than_the_heads(module: FoldModule) -> None:
    module.config = override(module.config, ["backbone_rate=0.1"])
    groups = module.configure_optimizers()["optimizer"].param_groups
    peak = module.config.learning_rate
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.1 * peak, 0.1 * peak, peak, peak])
    heads = [*module.network.get_classifier().parameters(), *module.subclass_head.parameters()]
    assert {id(p) for group in groups[2:] for p in group["params"]} == {id(p) for p in heads}
    n_trained = sum(p.numel() for p in [*module.network.parameters(), *module.subclass_head.parameters()])
    assert sum(p.numel() for group in groups for p in group["params"]) == n_trained


def test_mixup_mixes_crops_and_targets_alike(module: FoldModule) -> None:
    module.config = override(module.config, ["mixup_alpha=0.4"])
    module.generator = torch.Generator().manual_seed(0)
    images, targets = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 2, 2), torch.arange(8.0)
    mixed, asked = module._mix(images, targets)
    torch.testing.assert_close(mixed[:, 0, 0, 0], asked)
    assert not torch.equal(asked, targets)
    assert float(asked.sum()) == pytest.approx(float(targets.sum()))


def test_smooth_labels_ask_for_less_than_certainty(module: FoldModule) -> None:
    crops = torch.zeros(4, 128, 128, 3, dtype=torch.uint8)
    batch = {"crops": crops, "targets": torch.ones(4), "subclasses": torch.zeros(4, 8)}
    nn.init.zeros_(module.network.get_classifier().weight)
    nn.init.constant_(module.network.get_classifier().bias, 5.0)  # P(atypical) .9933
    module.log = lambda *_, **__: None
    module.generator = torch.Generator().manual_seed(0)
    losses = {}
    for smoothing in (0.0, 0.5):
        module.config = override(module.config, [f"label_smoothing={smoothing}"])
        losses[smoothing] = float(module.training_step(batch, 0).detach())
    logits = torch.tensor([5.0])
    assert losses[0.0] == pytest.approx(float(F.binary_cross_entropy_with_logits(logits, torch.tensor([1.0]))))
    assert losses[0.5] == pytest.approx(float(F.binary_cross_entropy_with_logits(logits, torch.tensor([0.75]))))
