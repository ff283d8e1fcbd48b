"""Crops that are evaluated together: one domain, or all."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.bootstrap import Intervals, bootstrap
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.predictions import Array, check_called, check_predictions, check_threshold


def spell_domain(name: str) -> str:
    """A domain's name for a reader: the platform's are bare numbers."""
    return f"domain {name}" if name.isdecimal() else name


@dataclass(frozen=True, eq=False)  # arrays have no one answer to ==
class Group:
    """The predictions that make one row of a table, one curve or one panel.

    Attributes:
        name: As it is to be read in the picture.
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].
        called: bool (N,), the crops that are called atypical.
        threshold: In [0, 1], the one that gives these classes; None where no threshold does.
        case: (N,), the cases' names, as `bootstrap` takes them; only the intervals need them.
        seed: Of the intervals' draws.

    Raises:
        DataError: The predictions, the classes or the threshold are unusable, or the threshold gives other classes;
            the message names the group.
    """

    name: str
    is_atypical: Array
    p_atypical: Array
    called: Array
    threshold: float | None
    case: Array | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            check_predictions(self.is_atypical, self.p_atypical)
            check_called(self.called, len(self.is_atypical))
            if self.threshold is not None:
                check_threshold(self.threshold)
        except DataError as error:
            what = f"{self.name}: {error.what}"
            raise DataError(what, got=error.got, expected=error.expected, remedy=error.remedy) from error
        if self.threshold is not None and ((self.p_atypical >= self.threshold) != self.called).any():
            raise DataError(
                f"{self.name}: the threshold gives other classes",
                got=self.threshold,
                expected="atypical from the threshold on, else normal",
                remedy="correct the classes",
            )

    @classmethod
    def at_threshold(
        cls,
        name: str,
        is_atypical: Array,
        p_atypical: Array,
        threshold: float,
        case: Array | None = None,
        seed: int = 0,
    ) -> "Group":
        """A group whose classes are those of a threshold."""
        return cls(
            name, is_atypical, p_atypical, np.asarray(p_atypical, dtype=np.float64) >= threshold, threshold, case, seed
        )

    @property
    def is_one_case(self) -> bool:
        """All crops are known to be of one case."""
        return self.case is not None and bool(pd.notna(self.case).all()) and len(set(self.case)) == 1

    @cached_property
    def metrics(self) -> dict[str, float]:
        """As `mitoscope.scoring.metrics.classification.compute_metrics` gives them."""
        return compute_metrics(self.is_atypical, self.p_atypical, self.called)

    @cached_property
    def intervals(self) -> Intervals | None:
        """None where all crops are of one case: nothing can be said of another one."""
        if self.is_one_case:
            return None
        return bootstrap(self.is_atypical, self.p_atypical, self.called, self.case, seed=self.seed)
