"""Settings as frozen dataclasses: their ranges, and ``key=value`` from the command line."""

import dataclasses
import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mitoscope.errors import DataError

Config = TypeVar("Config")


def check_ranges(config: object, rules: dict[str, bool], what: str, option: str) -> None:
    """Refuse the first setting of a dataclass that is out of range.

    Args:
        config: The settings.
        rules: Whether each setting is in range, by name.
        what: What the user calls a setting.
        option: The command line's option up to the setting's name, such as ``"--set "`` or ``"--set lora."``.

    Raises:
        DataError: A setting is out of range.
    """
    for name, good in rules.items():
        if not good:
            raise DataError(
                f"{what} {name} is out of range",
                got=getattr(config, name),
                expected=_describe(type(config), name),
                remedy=f"correct {option}{name}=…",
            )


def _describe(config: type, name: str) -> str:
    """What the docstring of a dataclass says of a setting."""
    found = re.search(rf"^    {name}: (.+(?:\n {{8}}.+)*)", inspect.getdoc(config) or "", re.MULTILINE)
    where = f"a value as {config.__name__} in {config.__module__.replace('.', '/')}.py says"
    return f"a value that fits: {' '.join(found[1].rstrip('.').replace('``', '').split())}" if found else where


def override(config: Config, settings: Sequence[str], option: str = "--set") -> Config:
    """Apply ``key=value`` settings, nested ones as ``augment.zoom=0.1``.

    Args:
        config: Any frozen dataclass. The settings of its field ``part``, if it has one, are named without ``part.``.
        settings: The changes.
        option: The command line's option, for the error.

    Raises:
        DataError: A key is unknown or a value is not of its type.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        path, _, text = setting.partition("=")
        names = _find_names(config, path.split("."), f"{option} {setting}")
        value, inner = _read_value(config, names, text, f"{option} {setting}"), changes
        for outer in names[:-1]:
            inner = inner.setdefault(outer, {})
        inner[names[-1]] = value
    changed: Config = _replace(config, changes)
    return changed


def _replace(config: Any, changes: dict[str, Any]) -> Any:  # noqa: ANN401 - any of the dataclasses
    """A copy of a dataclass with some values replaced, all at once: only together do they have to fit."""
    return replace(
        config,
        **{
            name: _replace(current, value) if dataclasses.is_dataclass(current := getattr(config, name)) else value
            for name, value in changes.items()
        },
    )


def _find_names(config: object, path: list[str], setting: str) -> list[str]:
    """The fields from a dataclass down to a setting, ``part`` among them."""
    names = [item.name for item in dataclasses.fields(config)]  # type: ignore[arg-type]  # a dataclass
    of_task: list[str] = []
    if "part" in names:
        names.remove("part")
        of_task = [item.name for item in dataclasses.fields(config.part)]  # type: ignore[attr-defined]
    if path[0] not in [*names, *of_task]:
        raise DataError(
            f"{setting} names no setting", got=path[0], expected=", ".join([*names, *of_task]),
            remedy="correct the name",
        )  # fmt: skip
    if path[0] in of_task:
        return ["part", *_find_names(config.part, path, setting)]  # type: ignore[attr-defined]
    current = getattr(config, path[0])
    if len(path) > 1 and dataclasses.is_dataclass(current):
        return [path[0], *_find_names(current, path[1:], setting)]
    return path


def _read_value(config: object, names: list[str], text: str, setting: str) -> Any:  # noqa: ANN401 - of the setting's type
    """The value that a setting's text means."""
    current = config
    try:
        for name in names:
            current = getattr(current, name)
        value = text if isinstance(current, str) else json.loads(text)
        if isinstance(current, float) and type(value) is int:
            value = float(value)
        if isinstance(current, tuple):
            value = tuple(value)
        if type(value) is not type(current):
            raise ValueError(text)
    except (AttributeError, ValueError, TypeError) as error:
        raise DataError(
            f"{setting} has no usable value",
            got=text,
            expected=f"a {type(current).__name__} such as {json.dumps(current, default=str)}",
            remedy="correct the value",
        ) from error
    return value
