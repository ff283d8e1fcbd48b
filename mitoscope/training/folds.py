"""Five folds, stratified by label × domain and grouped by case; and the crops that are held out of all of them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from mitoscope.errors import DataError
from mitoscope.files import read_object, write_json
from mitoscope.training.data.samples import TRAIN_ONLY, Samples

FORMAT = 1
N_FOLDS = 5
WHOLE = N_FOLDS  # the number of a member that all folds train and none validates


@dataclass(frozen=True)
class Folds:
    """Which crops validate which member, and which are never trained on.

    Attributes:
        seed: Of the shuffle.
        folds: Image ids by fold; fold k validates member k, the four others train it.
        held_out: Image ids by the name of what was held out, e.g. ``"source=AtNorM-Br"``.
        train_only: Image ids that train every member and validate none.
        unused: Image ids that are in no part: studies of how much data is needed leave some out.
        leaky: Cases may be on two sides; only for studies that measure what that does.
    """

    seed: int
    folds: tuple[tuple[str, ...], ...]
    held_out: dict[str, tuple[str, ...]]
    train_only: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    leaky: bool = False

    @property
    def sha256(self) -> str:
        """The hash of the content. The file holds it, and `read_folds` checks it."""
        content: list[object] = [self.seed, self.folds, self.held_out]
        if self.train_only:  # fold files from before these existed keep their hash
            content += [self.train_only]
        if self.unused or self.leaky:
            content += [self.unused, self.leaky]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def validation_ids(self, fold: int) -> list[str]:
        """The ids that validate member ``fold``; none for `WHOLE`."""
        return [] if fold == WHOLE else list(self.folds[fold])

    def train_ids(self, *members: int) -> list[str]:
        """The ids that train at least one of some members, each once."""
        own = [
            image_id for k, ids in enumerate(self.folds) if any(k != member for member in members) for image_id in ids
        ]
        return [*own, *self.train_only]


def split(data: Samples, hold_out: list[str], seed: int = 0) -> Folds:
    """Split a data folder.

    Args:
        data: The crops.
        hold_out: Each a domain's name, or ``column=value`` of the table.
        seed: Of the shuffle.

    Returns:
        The folds. No case is on two sides.

    Raises:
        DataError: A hold-out matches no crop, leaves too few cases, or contains only a part of a case.
    """
    table = data.table
    held_out = {name: tuple(table.loc[_chosen(table, name), "image_id"]) for name in hold_out}
    held, train_only = held_out_mask(table, hold_out), _train_only_mask(table)
    rest = ~held & ~train_only
    inside, groups = table[rest], case_groups(table)[rest]
    parts = tuple(tuple(part) for part in split_groups(inside, groups, seed))
    folds = Folds(seed, parts, held_out, tuple(table.loc[train_only & ~held, "image_id"]))
    check_folds(folds, data)
    return folds


def split_groups(table: pd.DataFrame, groups: pd.Series, seed: int, n_parts: int = N_FOLDS) -> list[list[str]]:
    """Parts of about one size, stratified by label and domain.

    Args:
        table: Some rows of a data folder's table.
        groups: What stays in one part, for each row.
        seed: Of the shuffle.
        n_parts: How many.

    Returns:
        The image ids of each part.

    Raises:
        DataError: There are fewer groups than parts.
    """
    if groups.nunique() < n_parts:
        raise DataError(
            "too few cases remain to split",
            got=groups.nunique(),
            expected=f"at least {n_parts}",
            remedy="name the slide of each image (column case): those without count as one; or hold out less",
        )
    strata = table["label"] + "|" + table["domain"].fillna("unknown")
    splitter = StratifiedGroupKFold(n_splits=n_parts, shuffle=True, random_state=seed)
    parts = splitter.split(np.zeros(len(table)), strata, groups)
    return [table["image_id"].iloc[part].tolist() for _, part in parts]


def _train_only_mask(table: pd.DataFrame) -> np.ndarray:
    """bool (N,): the rows whose part says so."""
    return np.asarray(table["part"] == TRAIN_ONLY) if "part" in table else np.zeros(len(table), dtype=bool)


def held_out_mask(table: pd.DataFrame, hold_out: Sequence[str]) -> np.ndarray:
    """bool (N,): the rows of all hold-outs together.

    Raises:
        DataError: One of them matches no crop.
    """
    mask = np.zeros(len(table), dtype=bool)
    for name in hold_out:
        mask |= _chosen(table, name)
    return mask


def _chosen(table: pd.DataFrame, name: str) -> np.ndarray:
    """bool (N,): the rows of one hold-out, a domain's name or ``column=value``."""
    column, _, value = name.rpartition("=")
    column = column or "domain"
    if column not in table.columns:
        raise DataError(
            f"--hold-out {name} matches no crop",
            got=f"no column {column}",
            expected=", ".join(table.columns),
            remedy="name a domain, or column=value",
        )
    chosen = (table[column].astype(str) == value).to_numpy()
    if not chosen.any():
        known = sorted(map(str, table[column].dropna().unique()))
        raise DataError(
            f"--hold-out {name} matches no crop",
            got=value,
            expected=str(known[:20]) if known else f"a value, but the column {column} is empty",
            remedy="name a domain, or column=value"
            if known or column != "part"
            else "run prepare with amibr_train_split.csv after --ami-br too",
        )
    return np.asarray(chosen)


def case_groups(table: pd.DataFrame) -> pd.Series:
    """What stays on one side: the case; where a source does not name its slides, all its crops together."""
    return table["case"].fillna(table["source"] + ", slides unknown")


def check_folds(folds: Folds, data: Samples) -> None:
    """Refuse folds with a case or a crop on two sides, or a class that is missing.

    Raises:
        DataError: Names the first such case, crop or part.
    """
    owner: dict[str, str] = {}
    groups = case_groups(data.table)
    everything = (*folds.folds, *folds.held_out.values(), folds.train_only, folds.unused)
    listed = {image_id for ids in everything for image_id in ids}
    if unlisted := set(data.table["image_id"]) - listed:
        raise DataError(
            "the folds are not those of this table",
            got=f"{len(unlisted)} crops that are in no fold, such as {min(unlisted)}",
            expected="every crop in a fold or held out",
            remedy="run split again on this data folder",
        )
    parts = {f"fold {k}": ids for k, ids in enumerate(folds.folds)}
    held_out = tuple(dict.fromkeys(sum(folds.held_out.values(), ())))  # two hold-outs may share crops
    for side, ids in [*parts.items(), ("held out", held_out), ("what all members train on", folds.train_only)]:
        cases = groups.iloc[data.rows_of(list(ids))].unique()
        for group in [*ids, *(() if folds.leaky else ("case " + case for case in cases))]:
            if owner.setdefault(group, side) != side:
                raise DataError(
                    f"{group} is on two sides",
                    got=f"{owner[group]} and {side}",
                    expected="each case and crop on one side only",
                    remedy="hold out all crops of a case; where a fold file was edited by hand, run split again",
                )
    for name, ids in (parts | folds.held_out).items():
        data.check_part(name, data.rows_of(list(ids)))


def write_folds(path: Path, folds: Folds) -> None:
    """Write folds.json, whole or not at all."""
    content: dict[str, object] = {"seed": folds.seed, "folds": folds.folds, "held_out": folds.held_out}
    if folds.train_only:
        content |= {"train_only": folds.train_only}
    if folds.unused or folds.leaky:
        content |= {"unused": folds.unused, "leaky": folds.leaky}
    write_json(path, {"format": FORMAT, "sha256": folds.sha256, **content})


def read_folds(path: Path, data: Samples) -> Folds:
    """Read folds.json and check its hash and that no case leaks.

    Raises:
        DataError: The file is missing, altered, or does not belong to this data.
    """
    remedy = "run mitoscope train split again"
    content = read_object(path, remedy)
    try:
        folds = Folds(
            content["seed"],
            tuple(map(tuple, content["folds"])),
            {name: tuple(ids) for name, ids in content["held_out"].items()},
            tuple(content.get("train_only", ())),
            tuple(content.get("unused", ())),
            content.get("leaky", False),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read", got=repr(error), expected="a fold file", remedy=remedy) from error
    if content.get("sha256") != folds.sha256 or content.get("format") != FORMAT:
        raise DataError(
            f"{path} was altered", got=content.get("sha256"), expected=f"sha256 {folds.sha256}", remedy=remedy
        )
    check_folds(folds, data)
    return folds
