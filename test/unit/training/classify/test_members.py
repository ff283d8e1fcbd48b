from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mitoscope.errors import DataError
from mitoscope.training.classify.members import with_base
from mitoscope.training.presets import PRESETS
from mitoscope.training.study.study import Study


def study(data: Any, preset: str) -> Study[Any]:
    """A finished study's record, without members."""
    return Study(Path("runs"), {"config": PRESETS[preset].to_dict(), "init": "there"}, data, SimpleNamespace())  # type: ignore[arg-type]


def test_a_base_is_for_the_studies_that_need_one(data: Any) -> None:
    studies = {"whole": study(data, "lite"), "adapters": study(data, "partial-lite")}
    found = with_base(studies, Path("moved"))
    assert {name: each.record["init"] for name, each in found.items()} == {"whole": "there", "adapters": "moved"}
    assert with_base(studies, None) == studies
    with pytest.raises(DataError, match="--base is for a study of adapters"):
        with_base({"whole": studies["whole"]}, Path("moved"))
