"""Checks that the parts of a manifest share."""

import math

from mitoscope.errors import WeightsError

RESTORE = "restore the bundle from where it was published, or name another with --weights"


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def fault(what: str, *, got: object, expected: str) -> WeightsError:
    """The error for a broken bundle; the remedy is always the same."""
    return WeightsError(what, got=got, expected=expected, remedy=RESTORE)


def unusable(what: str, got: object, expected: str) -> WeightsError:
    """The error for a manifest that cannot be used."""
    return fault(f"{what} cannot be used", got=got, expected=expected)
