"""The identity of a fit: also that of folders which software wrote whose hash covered every setting."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mitoscope.errors import DataError
from mitoscope.files import write_json
from mitoscope.settings import override
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import split
from mitoscope.training.marks import claimed, fold_mark, is_done
from mitoscope.training.presets import PRESETS, hash_as_version_1
from mitoscope.training.settings import FitConfig


@pytest.fixture
def make_mark(data: CropData) -> Callable[..., dict[str, Any]]:
    """A function (config, fold) that returns a mark."""
    folds = split(data, ["source=other"])
    return lambda config, fold=0: fold_mark(config.sha256, data, folds, fold)


@pytest.fixture
def older(tmp_path: Path, make_mark: Callable[..., dict[str, Any]]) -> FitConfig[Any]:
    """The settings of a finished run folder of older software, which knew neither tasks nor ``keep``."""
    config = override(PRESETS["lite"], ["epochs=3"])
    recorded = {name: value for name, value in config.to_dict().items() if name not in ("task", "keep", "patience")}
    mark = {**make_mark(config), "config_sha256": hash_as_version_1(recorded)}
    write_json(tmp_path / "config.json", recorded)
    write_json(tmp_path / "started.json", {"mark": mark, "commits": ["a"]})
    write_json(tmp_path / "done.json", {"mark": mark, "commits": ["a"], "seconds": 1})
    return config


def test_a_folder_of_older_software_is_the_same_fit(
    older: FitConfig[Any], make_mark: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    assert is_done(tmp_path, make_mark(older))
    with claimed(tmp_path, make_mark(older)):
        assert json.loads((tmp_path / "started.json").read_text())["mark"] == make_mark(older)


@pytest.mark.parametrize("change", ["epochs=4", "keep=best"])
def test_a_folder_of_older_software_with_other_settings_is_refused(
    change: str, older: FitConfig[Any], make_mark: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    mark = make_mark(override(override(older, ["validate_every=1"]), [change]))
    assert not is_done(tmp_path, mark)
    with pytest.raises(DataError, match="belongs to other data.*got other settings, expected"), claimed(tmp_path, mark):
        pass


def test_recorded_settings_that_were_edited_are_not_believed(
    older: FitConfig[Any], make_mark: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    other = override(older, ["epochs=4"])
    write_json(tmp_path / "config.json", other.to_dict())
    assert not is_done(tmp_path, make_mark(other))
    assert not is_done(tmp_path, make_mark(older))
    assert not is_done(tmp_path, make_mark(older, fold=1))
