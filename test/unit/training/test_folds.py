import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mitoscope.errors import DataError
from mitoscope.training.data.samples import TRAIN_ONLY
from mitoscope.training.data.table import CropData, read_data, write_data
from mitoscope.training.folds import Folds, check_folds, read_folds, split, write_folds


@pytest.fixture
def folds(data: CropData) -> Folds:
    return split(data, ["source=other"])


def test_every_crop_is_in_one_fold_or_held_out(data: CropData, folds: Folds) -> None:
    ids = [image_id for fold in folds.folds for image_id in fold] + list(folds.held_out["source=other"])
    assert sorted(ids) == sorted(data.table["image_id"])


def test_no_case_crosses_a_fold(data: CropData, folds: Folds) -> None:
    cases = [set(data.table["case"].iloc[data.rows_of(list(fold))]) for fold in folds.folds]
    assert sum(map(len, cases)) == len(set.union(*cases))


def test_what_is_held_out_trains_and_validates_nothing(data: CropData) -> None:
    folds = split(data, ["lung"])
    lung = set(data.table.loc[data.table["domain"] == "lung", "image_id"])
    for fold in range(5):
        assert not lung & {*folds.train_ids(fold), *folds.folds[fold]}


def test_some_samples_train_every_member_and_validate_none(data: CropData, tmp_path: Path) -> None:
    cases = sorted(set(data.table["case"].dropna()))[:3]
    marked = replace(data, table=data.table.assign(part=data.table["case"].isin(cases).map({True: TRAIN_ONLY})))
    folds = split(marked, ["source=other"])
    always = set(marked.table.loc[marked.table["part"].notna(), "image_id"])
    assert always == set(folds.train_only)
    for fold in range(5):
        assert always <= set(folds.train_ids(fold))
        assert not always & set(folds.folds[fold])
    write_folds(tmp_path / "folds.json", folds)
    assert read_folds(tmp_path / "folds.json", marked) == folds


def test_each_fold_has_both_classes(data: CropData, folds: Folds) -> None:
    for fold in folds.folds:
        assert 0 < data.is_atypical[data.rows_of(list(fold))].mean() < 0.5


def test_the_same_seed_gives_the_same_folds_and_another_does_not(data: CropData, folds: Folds) -> None:
    assert split(data, ["source=other"]) == folds
    assert split(data, ["source=other"], seed=1) != folds


def test_a_file_reads_back(data: CropData, folds: Folds, tmp_path: Path) -> None:
    write_folds(tmp_path / "folds.json", folds)
    assert read_folds(tmp_path / "folds.json", data) == folds


def test_a_tampered_file_is_refused(data: CropData, folds: Folds, tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    write_folds(path, folds)
    content = json.loads(path.read_text())
    content["folds"][0].append(content["folds"][1].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="was altered"):
        read_folds(path, data)


def test_a_case_on_two_sides_is_named(data: CropData, folds: Folds) -> None:
    moved = folds.folds[1][0]
    leaking = replace(folds, folds=((*folds.folds[0], moved), folds.folds[1][1:], *folds.folds[2:]))
    with pytest.raises(DataError, match="case slide.* is on two sides"):
        check_folds(leaking, data)


def test_a_hold_out_that_matches_nothing_is_refused(data: CropData) -> None:
    with pytest.raises(DataError, match="matches no crop.*breast"):
        split(data, ["liver"])


def test_crops_of_unknown_slides_stay_together(data: CropData) -> None:
    other = set(data.table.loc[data.table["source"] == "other", "image_id"])
    assert len(other) == 10
    assert sorted(len(other & set(fold)) for fold in split(data, []).folds) == [0, 0, 0, 0, 10]


@pytest.mark.parametrize("hold_out", ["image_id=made/75", "image_id=made/5"])
def test_a_hold_out_that_cuts_through_a_case_is_refused(data: CropData, hold_out: str) -> None:
    with pytest.raises(
        DataError, match="case (other, slides unknown|slide1) is on two sides.*hold out all crops of a case"
    ):
        split(data, [hold_out])


def test_two_hold_outs_may_share_crops(data: CropData) -> None:
    folds = split(data, ["lung", "source=other"])
    assert set(folds.held_out["source=other"]) < set(folds.held_out["lung"])
    assert not set(folds.held_out["lung"]) & {image_id for fold in folds.folds for image_id in fold}


def test_a_part_of_one_class_is_refused(data: CropData, folds: Folds) -> None:
    other = data.table[data.table["source"] == "other"]
    by_label = {label: tuple(rows["image_id"]) for label, rows in other.groupby("label")}
    with pytest.raises(DataError, match="(normal|atypical) holds one class only"):
        check_folds(replace(folds, held_out=by_label), data)


def test_folds_that_leave_crops_out_are_not_this_table_s(data: CropData, folds: Folds) -> None:
    with pytest.raises(DataError, match="not those of this table: got 10 crops that are in no fold, such as made/7"):
        check_folds(replace(folds, held_out={}), data)


def test_folds_are_stratified_by_cancer_too(data_folder: Path, tmp_path: Path) -> None:
    table = read_data(data_folder).table.drop(columns="domain")
    table["case"] = table["image_id"]  # nothing is bound to stay together
    table["domain"] = ["breast" if row < 20 else "lung" for row in range(80)]
    write_data(tmp_path, table, np.zeros((80, 128, 128, 3), np.uint8))
    data = read_data(tmp_path)
    for fold in split(data, []).folds:
        assert sorted(data.table["domain"].iloc[data.rows_of(list(fold))]).count("breast") == 4
