"""Settings of a fit as frozen dataclasses: what every task has in common, and a part that belongs to one task."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from mitoscope.errors import DataError
from mitoscope.files import hash_file
from mitoscope.settings import check_ranges
from mitoscope.training.data.samples import Samples

HASH_VERSION = 2  # 1, in older folders, hashed all settings: a new one refused finished work


class TaskSettings(Protocol):
    """The settings of one task: a frozen dataclass that can be made without arguments."""

    task: ClassVar[str]  # as in a bundle's manifest


Part = TypeVar("Part", bound=TaskSettings)


@dataclass(frozen=True)
class FitConfig(Generic[Part]):
    """How one member is trained.

    Never change a default, here or in a task's part: `hash_settings` leaves out what has its default. A preset states
    what differs. The default of a new setting is what was done before that setting existed.

    Attributes:
        part: The task's own settings. On the command line and in JSON they are beside the common ones.
        architecture: timm's name.
        pretrained: Start from ImageNet weights: of a registry package, see
            `mitoscope.training.bases.pretrained.PACKAGES`, else of timm's model hub.
        init: A .safetensors or .pth file to start the backbone from instead; empty: none.
        epochs: Passes over as many samples as the training folds hold.
        batch_size: Samples per step.
        learning_rate: AdamW's peak; reached after ``warmup_steps``, then a cosine down to 0.
        backbone_rate: Factor on the learning rate of everything but the heads.
        weight_decay: On matrices and kernels, not on biases and norms.
        warmup_steps: Steps of the linear warm-up.
        ema_decay: Of the moving average of the weights, which is validated and published.
        clip_norm: Largest norm of the gradient.
        validate_every: Epochs between two validations.
        patience: Validations without a better score after which the run stops; 0: the run does not stop early.
        keep: Which epoch's weights are published: ``"last"``, or ``"best"`` on the validation fold. ``"best"`` and
            ``patience`` need a validation, so ``validate_every`` must be at most ``epochs``. ``"best"`` flatters the
            out-of-fold metrics a little, because that fold has chosen the epoch.
        precision: Lightning's: "32-true", "16-mixed", "bf16-mixed".
        seed: Of weights, dropout, sampling and augmentation; the fold's number is added to it.
    """

    part: Part
    architecture: str = "efficientvit_b0"
    pretrained: bool = False
    init: str = ""
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 5e-4
    backbone_rate: float = 1.0
    weight_decay: float = 0.05
    warmup_steps: int = 100
    ema_decay: float = 0.99
    clip_norm: float = 1.0
    validate_every: int = 5
    patience: int = 0
    keep: str = "last"
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 2,
            "learning_rate": 0 < self.learning_rate < 1,
            "backbone_rate": 0 <= self.backbone_rate <= 1,
            "warmup_steps": self.warmup_steps >= 0,
            "weight_decay": self.weight_decay >= 0,
            "clip_norm": self.clip_norm > 0,
            "ema_decay": 0 <= self.ema_decay < 1,
            "validate_every": self.validate_every >= 1,
            "patience": self.patience >= 0 and (not self.patience or self.validate_every <= self.epochs),
            "keep": self.keep == "last" or (self.keep == "best" and self.validate_every <= self.epochs),
            "seed": 0 <= self.seed < 2**32 - 100,
            "precision": self.precision in ("32-true", "16-mixed", "bf16-mixed"),
        }
        check_ranges(self, rules, "the setting", "--set ")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the task's name, and all settings side by side.

        ``init`` is recorded as the file's name and SHA-256, so that another file is another fit.

        Raises:
            DataError: ``init`` names no file.
        """
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.init:
            path = Path(self.init)
            if not path.is_file():
                raise DataError(
                    "the setting init names no file",
                    got=self.init,
                    expected="a .safetensors or .pth file",
                    remedy="correct --set init=…",
                )
            values |= {"init": path.name, "init_sha256": hash_file(path)}
        return {"task": self.part.task, **values.pop("part"), **values}

    @property
    def sha256(self) -> str:
        """The hash of the settings; a finished fold is skipped only under the same one."""
        return hash_settings(self.to_dict(), type(self.part))


def hash_settings(settings: Mapping[str, Any], part: type[TaskSettings]) -> str:
    """The hash of all settings that differ from their defaults, so that a new setting changes no hash.

    Args:
        settings: As `FitConfig.to_dict` returns them. Those that are missing have their defaults.
        part: The class of the task's settings.
    """
    changed = _differences(settings, FitConfig(part()).to_dict())
    content = {**changed, "version": HASH_VERSION, "task": part.task}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _differences(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from their defaults; of nested ones the inner settings that do."""
    changed = {}
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            if inner := _differences(value, default):
                changed[name] = inner
        elif value != default:
            changed[name] = value
    return changed


def check_task(data: Samples, config: FitConfig[Any]) -> None:
    """Refuse the data of another task.

    Raises:
        DataError: A preset for crops meets fields, or the other way round.
    """
    if data.task != config.part.task:
        raise DataError(
            "the data were prepared for another task",
            got=f"data to {data.task}, and a preset to {config.part.task}",
            expected="both of the same task",
            remedy="name another --preset or --data",
        )
