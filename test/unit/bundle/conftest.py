import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.members import parse_member
from mitoscope.bundle.read import read_content


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may break."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


@pytest.fixture(scope="session")
def edit() -> Callable[..., None]:
    """A function (folder, **changes) that changes a manifest's fields and removes its checksum."""

    def change(folder: Path, **changes: object) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest.pop("checksum", None)
        (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))

    return change


@pytest.fixture(scope="session")
def read_states() -> Callable[[Bundle], list]:
    """A function (bundle) that reads all members' tensors."""
    return lambda bundle: [parse_member(read_content(bundle, member), member.file) for member in bundle.members]
