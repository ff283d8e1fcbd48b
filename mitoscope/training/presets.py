"""All presets by name, whatever their task; and the settings of earlier runs as this software understands them.

A new task adds its settings and presets here, and what trains it to `mitoscope.training.fit.MAKERS`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mitoscope.errors import DataError
from mitoscope.networks.foundation import FOUNDATION
from mitoscope.settings import override
from mitoscope.training.bases.pretrained import PACKAGES
from mitoscope.training.bases.weights import find_weights
from mitoscope.training.classify.settings import PRESETS as CLASSIFY_PRESETS
from mitoscope.training.classify.settings import ClassifySettings
from mitoscope.training.detect.settings import PRESETS as DETECT_PRESETS
from mitoscope.training.detect.settings import DetectSettings
from mitoscope.training.settings import FitConfig, TaskSettings, hash_settings

PARTS: dict[str, type[TaskSettings]] = {part.task: part for part in (ClassifySettings, DetectSettings)}
PRESETS: dict[str, FitConfig[Any]] = {**CLASSIFY_PRESETS, **DETECT_PRESETS}


def configure(preset: str, settings: Sequence[str]) -> FitConfig[Any]:
    """A preset with ``key=value`` changes.

    A foundation model that replaces a preset's network brings its own input; ``input.…`` changes that. Where a
    foundation model is to start from its published weights and ``init`` names no file, the file in the hub's cache is
    taken, and downloaded if it is not there.

    Raises:
        DataError: The preset, a key or a value is unknown.
        WeightsError: The hub refuses, or cannot be reached.
    """
    config = _change(preset, settings)
    method = getattr(config.part, "method", "full")
    if _needs_base(config):
        config = replace(config, init=str(find_weights(config.architecture)))
    if method != "full" and not config.pretrained and not config.init:
        raise DataError(
            f"method {method} needs published weights",
            got="a backbone with random weights",
            expected="weights to keep frozen",
            remedy="name a file with --base, or use --set pretrained=true",
        )
    return config


def needs_base(preset: str, settings: Sequence[str]) -> bool:
    """Whether a preset with changes starts from a base that no package holds: from ``--base``, else from the hub."""
    return _needs_base(_change(preset, settings))


def add_base(preset: str, settings: Sequence[str], base: Path) -> list[str]:
    """The settings, and the file of the weights to start from among them.

    Args:
        preset: Of a fit.
        settings: ``key=value`` changes to it.
        base: See `mitoscope.training.bases.weights.find_weights`.
    """
    return [*settings, f"init={find_weights(name_architecture(preset, settings), base).resolve()}"]


def _needs_base(config: FitConfig[Any]) -> bool:
    """See `needs_base`."""
    is_base = config.architecture in FOUNDATION or getattr(config.part, "method", "full") != "full"
    return is_base and config.pretrained and not config.init and config.architecture not in PACKAGES


def _change(preset: str, settings: Sequence[str]) -> FitConfig[Any]:
    """A preset with changes; a foundation model brings its own input."""
    config = _preset(preset)
    chosen = override(config, [setting for setting in settings if setting.startswith("architecture=")])
    known = FOUNDATION.get(chosen.architecture)
    if known and chosen.architecture != config.architecture:
        config = replace(config, part=replace(config.part, input=known.input))
    return override(config, settings)


def name_architecture(preset: str, settings: Sequence[str]) -> str:
    """The architecture of a preset with changes; nothing is looked for.

    Raises:
        DataError: The preset, a key or a value is unknown.
    """
    return override(_preset(preset), settings).architecture


def _preset(name: str) -> FitConfig[Any]:
    """A preset by name."""
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=5) or PRESETS
        raise DataError(f"--preset {name} is unknown", got=name, expected=", ".join(near), remedy="correct the name")
    return PRESETS[name]


def hash_recorded(settings: Mapping[str, Any]) -> str:
    """The hash of settings that a run recorded, whatever software wrote them."""
    return hash_settings(settings, _part(settings))


def hash_as_version_1(settings: Mapping[str, Any]) -> str:
    """The hash that software before `mitoscope.training.settings.HASH_VERSION` 2 gave to what it recorded."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def fill_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings with those that did not exist then, which have their defaults."""
    return {**FitConfig(_part(settings)()).to_dict(), **settings}


def _part(settings: Mapping[str, Any]) -> type[TaskSettings]:
    """The class of the task's own settings; records of version 1 name no task."""
    return PARTS[settings.get("task", ClassifySettings.task)]
