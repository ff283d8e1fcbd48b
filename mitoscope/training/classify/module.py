"""One member in training: network, auxiliary head, loss, optimiser and moving average, as a Lightning module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy

from mitoscope.classify.preprocess import preprocess
from mitoscope.errors import DataError
from mitoscope.networks.build import embed
from mitoscope.training.augment import augment
from mitoscope.training.bases.pretrained import start_network
from mitoscope.training.bases.weights import describe_base, find_weights
from mitoscope.training.classify.adapters.average import make_average
from mitoscope.training.classify.adapters.lora import choose_trained, keep_statistics, read_adapter
from mitoscope.training.classify.settings import ClassifyConfig
from mitoscope.training.data.table import SUBCLASSES
from mitoscope.training.steps import check_loss, make_optimiser, seed_epoch
from mitoscope.training.task import MemberModule


def focal_loss(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Focal loss for binary targets that may be soft.

    Args:
        logits: float (B,).
        targets: float (B,) in [0, 1]; the probability of *atypical*.
        gamma: 0 gives cross-entropy. For hard targets this is Lin et al., ICCV 2017; for soft ones the modulating
            factor |target - p|^gamma is that of quality focal loss (Li et al., NeurIPS 2020).

    Returns:
        The mean, a scalar.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return ((targets - logits.sigmoid()).abs() ** gamma * cross_entropy).mean()


class FoldModule(MemberModule):
    """Trains one member; validates and publishes the moving average of its weights.

    Validation during training runs timm's module, because converting the weights for inference each time would cost
    more. It chooses the best epoch and stops early. What is recorded of a member (validation.csv) is computed by the
    code that inference runs.

    A batch is a dict: ``crops`` uint8 (B, 128, 128, 3), ``targets`` float (B,) in [0, 1], ``subclasses`` float
    (B, 8), each row a distribution or all 0 where unknown, ``labels`` int64 (B,) with 1 for atypical.
    """

    def __init__(self, config: ClassifyConfig, total_steps: int, seed: int) -> None:
        super().__init__()
        self.config, self.total_steps, self.seed = config, total_steps, seed
        size_px = config.part.input.size_px
        network = start_network(config.architecture, size_px, pretrained=config.pretrained, init=config.init)
        choose_trained(network, config.part)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs
        self.subclass_head = nn.Linear(_classifier(self.network).in_features, len(SUBCLASSES))
        self.ema = make_average(self.network, config.ema_decay)
        frozen = [name for name, parameter in self.network.named_parameters() if not parameter.requires_grad]
        self.frozen = frozenset(f"{part}{name}" for part in ("network.", "ema.module.") for name in frozen)
        self.auroc = BinaryAUROC()
        self.balanced_accuracy = MulticlassAccuracy(2, average="macro")

    def on_train_epoch_start(self) -> None:
        """Seed by epoch."""
        keep_statistics(self.network, self.config.part.method)
        self.generator = seed_epoch(self.seed, self.current_epoch, self.device)

    def training_step(self, batch: dict[str, Tensor], _index: int) -> Tensor:
        """One step's loss."""
        with torch.autocast(self.device.type, enabled=False):  # half precision moves pixels and stains
            images, _ = augment(batch["crops"], self.config.part.input, self.config.part.augment, self.generator)
        smoothing = self.config.part.label_smoothing
        targets = batch["targets"] + smoothing * (0.5 - batch["targets"])
        images, targets, subclasses = self._mix(images, targets, batch["subclasses"])
        features = embed(self.network, images)  # (B, width)
        features = F.dropout(features, self.config.part.drop_rate)
        logits = _classifier(self.network)(features).squeeze(1)
        loss = focal_loss(logits, targets, self.config.part.focal_gamma)
        known = subclasses.sum(dim=1) > 0
        if self.config.part.subclass_weight and known.any():
            guesses = self.subclass_head(features[known])
            loss = loss + self.config.part.subclass_weight * F.cross_entropy(guesses, subclasses[known])
        check_loss(loss, self.global_step)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def _mix(self, images: Tensor, *targets: Tensor) -> tuple[Tensor, ...]:
        """Mix each crop, and its targets, with another of the batch."""
        alpha = self.config.part.mixup_alpha
        if not alpha:
            return images, *targets
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        other = torch.randperm(len(images), generator=self.generator, device=images.device)
        return tuple(share * values + (1 - share) * values[other] for values in (images, *targets))

    def on_train_batch_end(self, *_: object) -> None:
        """Move the average."""
        self.ema.update(self.network, step=self.global_step)

    def published_state(self) -> dict[str, Tensor]:
        """The averaged weights; of a frozen backbone only what was trained beside it."""
        if self.frozen:
            return read_adapter(self.ema.module)
        return {name: tensor.contiguous().cpu() for name, tensor in self.ema.module.state_dict().items()}

    def metadata(self) -> dict[str, str]:
        """Of an adapter, the hash of its base."""
        architecture, init = self.config.architecture, self.config.init
        if not self.frozen:
            return {}
        return {
            "base_sha256": describe_base(architecture, find_weights(architecture, Path(init) if init else None)).sha256
        }

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's own
        """What a checkpoint holds: all but what is frozen."""
        state = super().state_dict(*args, **kwargs)
        for name in self.frozen:
            del state[name]
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401 - torch's own
        """Load a checkpoint; what is frozen stays."""
        state = super().state_dict()
        kept = {name: state[name] for name in self.frozen}
        return super().load_state_dict({**kept, **state_dict}, strict, assign)

    def validation_step(self, batch: dict[str, Tensor], _index: int) -> None:
        """Collect ROC AUC, and balanced accuracy at 0.5, the middle of equally weighted classes."""
        images = preprocess(batch["crops"], self.config.part.input, self.device)
        p_atypical = self.ema.module(images).squeeze(1).double().sigmoid()
        self.auroc.update(p_atypical, batch["labels"])
        self.balanced_accuracy.update((p_atypical >= 0.5).long(), batch["labels"])

    def on_validation_epoch_end(self) -> None:
        """Log both over the whole validation fold."""
        self.log("val_roc_auc", self.auroc.compute(), prog_bar=True)
        self.log("val_balanced_accuracy", self.balanced_accuracy.compute(), prog_bar=True)
        self.auroc.reset()
        self.balanced_accuracy.reset()

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union of dicts
        """The classifier and the auxiliary head are the heads."""
        heads = [*_classifier(self.network).parameters(), *self.subclass_head.parameters()]
        in_head = {id(parameter) for parameter in heads}
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        backbone = [parameter for parameter in trained if id(parameter) not in in_head]
        return make_optimiser(self.config, backbone, heads, self.total_steps)


def _classifier(network: nn.Module) -> nn.Linear:
    """The last linear layer of a timm network, whatever its name."""
    head = network.get_classifier()  # type: ignore[operator]  # every timm network has it
    if not isinstance(head, nn.Linear):
        raise DataError(
            "the architecture cannot be trained here",
            got=f"a classifier of type {type(head).__name__}",
            expected="one linear layer at the end",
            remedy="choose another --set architecture=…",
        )
    return head
