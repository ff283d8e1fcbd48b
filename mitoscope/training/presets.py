"""All presets by name, whatever their task; and the settings of earlier runs as this software understands them.

A new task adds its settings and presets here, and what trains it to `mitoscope.training.fit.MAKERS`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mitoscope.errors import DataError
from mitoscope.training.classify.settings import PRESETS as CLASSIFY_PRESETS
from mitoscope.training.classify.settings import ClassifySettings
from mitoscope.training.detect.settings import PRESETS as DETECT_PRESETS
from mitoscope.training.detect.settings import DetectSettings
from mitoscope.training.settings import FitConfig, TaskSettings, hash_settings, override

PARTS: dict[str, type[TaskSettings]] = {part.task: part for part in (ClassifySettings, DetectSettings)}
PRESETS: dict[str, FitConfig[Any]] = {**CLASSIFY_PRESETS, **DETECT_PRESETS}


def configure(preset: str, settings: Sequence[str]) -> FitConfig[Any]:
    """A preset with ``key=value`` changes.

    Raises:
        DataError: The preset, a key or a value is unknown.
    """
    if preset not in PRESETS:
        raise DataError(
            f"--preset {preset} is unknown", got=preset, expected=", ".join(PRESETS), remedy="correct the name"
        )
    return override(PRESETS[preset], settings)


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
