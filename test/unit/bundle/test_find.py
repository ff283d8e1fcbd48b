from pathlib import Path

import pytest

from mitoscope.bundle import find as module
from mitoscope.bundle.find import find_bundle
from mitoscope.bundle.read import read_bundle
from mitoscope.errors import WeightsError


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL_TARBALL", "BAKED"):
        monkeypatch.setattr(module, name, tmp_path / name)
    monkeypatch.setattr(module, "DEFAULTS", (tmp_path / "package", tmp_path / "checkout"))


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("broken")
    return folder


def test_the_tarball_comes_before_the_image_the_package_and_the_checkout() -> None:
    package, checkout = module.DEFAULTS
    put(checkout)
    assert find_bundle() == checkout
    put(package)
    assert find_bundle() == package
    baked = put(module.BAKED)
    assert find_bundle() == baked
    nested = put(module.MODEL_TARBALL / "some-name")
    assert find_bundle() == nested


def test_a_broken_manifest_is_found_and_then_refused_not_passed_over() -> None:
    put(module.BAKED)
    put(module.MODEL_TARBALL)
    with pytest.raises(WeightsError, match="MODEL_TARBALL.*cannot be read"):
        read_bundle(find_bundle())


def test_two_manifests_in_the_tarball_are_refused() -> None:
    put(module.MODEL_TARBALL / "a")
    put(module.MODEL_TARBALL / "b")
    with pytest.raises(WeightsError, match="ambiguous"):
        find_bundle()


def test_a_tarball_without_a_manifest_where_it_is_looked_for_is_refused() -> None:
    put(module.BAKED)
    module.MODEL_TARBALL.mkdir()
    assert find_bundle() == module.BAKED
    put(module.MODEL_TARBALL / "weights" / "l2")
    with pytest.raises(WeightsError, match=r"the model tarball holds no bundle: got a folder that holds \['weights'\]"):
        find_bundle()


def test_nothing_anywhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights bundle"):
        find_bundle()


def test_a_wrong_path_says_what_lies_there(tmp_path: Path) -> None:
    put(tmp_path / "weights" / "lite")
    (tmp_path / "a file").touch()
    for path, got in (
        ("elsewhere", "no such folder"),
        ("a file", "a file"),
        ("weights", r"a folder that holds \['lite'\]"),
    ):
        with pytest.raises(WeightsError, match=f"no bundle in '.*{path}': got {got}, expected a folder with m"):
            find_bundle(tmp_path / path)
