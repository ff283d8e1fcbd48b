"""The crops that are judged together: one domain's, or all."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.bootstrap import Intervals, bootstrap
from mitoscope.scoring.metrics.classification import figures
from mitoscope.scoring.predictions import Array, Decision, check_predictions, decide


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
        threshold: In [0, 1]; a crop is called atypical when its probability is at least this. Or bool (N,), the crops
            that are called so, where no threshold explains the classes.
        case: (N,), the cases' names, as `bootstrap` takes them; only the intervals need them.
        seed: Of the intervals' draws.

    Raises:
        DataError: The predictions or the threshold are unusable; the message names the group.
    """

    name: str
    is_atypical: Array
    p_atypical: Array
    threshold: Decision
    case: Array | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            check_predictions(self.is_atypical, self.p_atypical)
            decide(self.p_atypical, self.threshold)
        except DataError as error:
            what = f"{self.name}: {error.what}"
            raise DataError(what, got=error.got, expected=error.expected, remedy=error.remedy) from error

    @property
    def called(self) -> Array:
        """bool (N,), the crops that are called atypical."""
        return decide(self.p_atypical, self.threshold)

    @property
    def fixed_threshold(self) -> float | None:
        """None where no threshold explains the classes."""
        return None if isinstance(self.threshold, np.ndarray) else self.threshold

    @property
    def is_one_case(self) -> bool:
        """All crops are known to be of one case."""
        return self.case is not None and bool(pd.notna(self.case).all()) and len(set(self.case)) == 1

    @cached_property
    def figures(self) -> dict[str, float]:
        """As `mitoscope.scoring.metrics.classification.figures` gives them."""
        return figures(self.is_atypical, self.p_atypical, self.threshold)

    @cached_property
    def intervals(self) -> Intervals | None:
        """None where all crops are of one case: nothing can be said of another one."""
        if self.is_one_case:
            return None
        return bootstrap(self.is_atypical, self.p_atypical, self.threshold, self.case, seed=self.seed)
