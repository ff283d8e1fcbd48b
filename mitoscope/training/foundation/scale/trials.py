"""One run of a study: which method learns from which crops, and which crops it is scored on."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mitoscope.errors import DataError
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import N_FOLDS, Folds, case_groups, check_folds, held_out_mask, split_groups

VALIDATION, TEST = "validation", "test"
CASE, RANDOM = "case", "random"


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        method: A probe (`mitoscope.training.foundation.probe.heads.PROBES`), or a preset of `mitoscope train fit`.
        settings: ``key=value`` changes to it: one point of a grid.
        fraction: Share of the training crops that it learns from, in (0, 1].
        seed: Of the split, of the draw of that share, and of the fit.
        split: ``"case"``: no case on two sides; ``"random"``: single crops are split, so that cases leak.
        left_out: A hold-out of this run alone, as ``"cohort=TUPAC16"``; empty: none.
    """

    method: str
    settings: tuple[str, ...] = ()
    fraction: float = 1.0
    seed: int = 42
    split: str = CASE
    left_out: str = ""

    @property
    def name(self) -> str:
        """Its folder's name, different for each trial of a study."""
        words = [self.method, *self.settings, self.left_out, self.split, f"{self.fraction:.12g}", f"seed{self.seed}"]
        return "_".join(re.sub(r"[^\w.=-]+", "-", word) for word in words if word)


@dataclass(frozen=True)
class Plan:
    """A study: every combination of these.

    Attributes:
        methods: See `Trial`.
        grid: Settings, each with its values, such as ``(("lora.rank", ("1", "8")),)``.
        fractions: See `Trial`.
        seeds: See `Trial`.
        splits: See `Trial`.
        leave_one_out: A column of the table; each of its values is left out once. Empty: nothing is.
        hold_out: Scored in every trial, never learned from; see `mitoscope.training.folds.split`.
    """

    methods: tuple[str, ...]
    grid: tuple[tuple[str, tuple[str, ...]], ...] = ()
    fractions: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (42,)
    splits: tuple[str, ...] = (CASE,)
    leave_one_out: str = ""
    hold_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named: list[tuple[str, Sequence[object]]] = [
            ("method", self.methods),
            ("fraction", self.fractions),
            ("seed", self.seeds),
            ("split", self.splits),
            ("setting of --grid", [key for key, _ in self.grid]),
            *((f"value of {key}", values) for key, values in self.grid),
        ]
        for what, values in named:
            if len(set(values)) < len(values):
                raise DataError(f"a {what} is named twice", got=list(values), expected="each once", remedy="correct it")
        for fraction in self.fractions:
            if not 0 < fraction <= 1:
                raise DataError(
                    "a fraction is out of range",
                    got=fraction,
                    expected="a number above 0, 1 at most",
                    remedy="correct it",
                )

    @property
    def has_own_test(self) -> bool:
        """Whether a fifth of the crops is set aside as a test: where nothing is held out, or a leak is measured."""
        return not self.hold_out or bool(self.leave_one_out) or RANDOM in self.splits

    def list_trials(self, table: pd.DataFrame) -> list[Trial]:
        """Every trial, in a fixed order.

        Raises:
            DataError: A value that is left out cannot be named.
        """
        points = [tuple(f"{key}={value}" for (key, _), value in zip(self.grid, values, strict=True))
                  for values in itertools.product(*(values for _, values in self.grid))]  # fmt: skip
        left_out = [""]
        if self.leave_one_out:
            column = table.get(self.leave_one_out)
            values = [] if column is None else sorted(map(str, column.dropna().unique()))
            held = held_out_mask(table, self.hold_out)
            left_out = [
                f"{self.leave_one_out}={value}" for value in values
                if ((table[self.leave_one_out].astype(str) == value).to_numpy() & ~held).any()
            ]  # fmt: skip
            if len(left_out) < 2:
                raise DataError(
                    f"--leave-one-out {self.leave_one_out} leaves nothing to train on",
                    got=values,
                    expected="a column of the table with two values or more",
                    remedy="name domain, cohort, source, scanner or species, if the table has two values of it",
                )
        every = itertools.product(self.methods, points, left_out, self.splits, self.fractions, self.seeds)
        return [Trial(m, point, fraction, seed, split, out) for m, point, out, split, fraction, seed in every]


def draw(data: CropData, trial: Trial, plan: Plan) -> Folds:
    """Which crops a trial learns from (fold 1), is validated on (fold 0) and scored on (held out).

    A fifth of the crops that are not held out is the test, if the plan has one; a fifth of the rest validates and
    places the threshold, whatever the fraction; of the others the fraction is drawn. Cases are drawn in a random order
    and whole, but for the last one, of which only as many crops are taken as are needed. A smaller fraction of the
    same seed is a part of a larger one. What is not drawn is not used. Where a cohort is left out, each fifth is taken
    from every other cohort that has two cases or more: the test never holds a cohort of which nothing was learned.

    Args:
        data: The crops.
        trial: The run.
        plan: Its study.

    Raises:
        DataError: Too few cases are left, or a part lacks a class.
    """
    table = data.table
    names = [*plan.hold_out, *([trial.left_out] if trial.left_out else [])]
    held_out = {name: table.loc[held_out_mask(table, [name]), "image_id"].tolist() for name in names}
    groups = case_groups(table) if trial.split == CASE else table["image_id"]
    left = ~held_out_mask(table, names)

    def take_fifth() -> list[str]:
        nonlocal left
        first = _take_fifth(table[left], groups[left], trial)
        left = left & ~table["image_id"].isin(first).to_numpy()
        return first

    if plan.has_own_test:
        held_out[TEST] = take_fifth()
    validation = take_fifth()
    drawn, unused = _draw_fraction(table[left], groups[left], trial)
    _check_classes(data, drawn, trial)
    folds = Folds(
        trial.seed,
        (tuple(validation), tuple(drawn)),
        {name: tuple(ids) for name, ids in held_out.items()},
        unused=tuple(unused),
        leaky=trial.split == RANDOM,
    )
    check_folds(folds, data)
    return folds


def _take_fifth(table: pd.DataFrame, groups: pd.Series, trial: Trial) -> list[str]:
    """The ids of a fifth of the groups; where a cohort is left out, of each other cohort's.

    The seed chooses the part: the same large groups are in the first part whatever the shuffle.
    """
    if not trial.left_out:
        return split_groups(table, groups, trial.seed)[trial.seed % N_FOLDS]
    column, taken = trial.left_out.rpartition("=")[0], list[str]()
    for _, own in table.groupby(column, dropna=False):
        if (count := min(N_FOLDS, groups[own.index].nunique())) > 1:
            taken += split_groups(own, groups[own.index], trial.seed, count)[trial.seed % count]
    if not taken:
        raise DataError(
            f"too few cases remain for a test and a validation where {trial.left_out} is left out",
            got=f"one case in each other {column}",
            expected=f"three cases or more in one {column}",
            remedy="use more data, or leave out the values of another column",
        )
    return taken


def _draw_fraction(table: pd.DataFrame, groups: pd.Series, trial: Trial) -> tuple[list[str], list[str]]:
    """The ids that are drawn, and those that are not."""
    random = np.random.default_rng(trial.seed)
    place = pd.Series(random.permutation(groups.nunique()), sorted(groups.unique()))
    order = np.lexsort((random.random(len(table)), groups.map(place)))
    ids = table["image_id"].iloc[order].tolist()
    count = max(1, round(trial.fraction * len(ids)))
    return ids[:count], ids[count:]


def _check_classes(data: CropData, drawn: Sequence[str], trial: Trial) -> None:
    """Refuse a fraction that leaves a class empty."""
    positive = int(data.is_atypical[data.rows_of(list(drawn))].sum())
    if not 0 < positive < len(drawn):
        empty = data.classes[-1] if positive == 0 else data.classes[0]
        raise DataError(
            f"the fraction {trial.fraction:g} with seed {trial.seed} holds no crop of the class {empty}",
            got=f"{len(drawn)} crops, all of one class",
            expected="crops of both classes",
            remedy="name larger --fractions or other --seeds",
        )
